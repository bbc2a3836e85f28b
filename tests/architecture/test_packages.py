"""pyproject.toml lists every package by name: a forgotten one would be missing only once installed."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("engine", "generation", "model_registry", "routes", "server")


def test_the_list_equals_the_packages_on_disk() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = settings["tool"]["setuptools"]["packages"]

    # A folder that lost its sources keeps its __pycache__ for a while: only sources count.
    folders = {source.parent for room in ROOMS for source in (ROOT / room).rglob("*.py")}
    on_disk = sorted(".".join(folder.relative_to(ROOT).parts) for folder in folders)

    assert listed == on_disk


def test_every_folder_of_sources_is_a_package() -> None:
    folders = {source.parent for room in ROOMS for source in (ROOT / room).rglob("*.py")}

    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_files_that_are_no_sources_are_listed_too() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = settings["tool"]["setuptools"]["package-data"]

    on_disk: dict[str, set[str]] = {}
    for room in ROOMS:
        for file in (ROOT / room).rglob("*"):
            if file.is_file() and file.suffix not in (".py", ".pyc"):
                package = ".".join(file.parent.relative_to(ROOT).parts)
                on_disk.setdefault(package, set()).add(f"*{file.suffix}")

    assert {package: set(patterns) for package, patterns in listed.items()} == on_disk
