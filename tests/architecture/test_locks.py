"""The locks hold versions and hashes, and nothing about where packages come from."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
REQUIREMENT = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>[^\s;\\]+)", re.MULTILINE)


def pinned(lock: Path) -> dict[str, set[str]]:
    pins: dict[str, set[str]] = {}
    for match in REQUIREMENT.finditer(lock.read_text()):
        pins.setdefault(match["name"], set()).add(match["version"])
    return pins


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_no_place(lock: Path) -> None:
    for line in lock.read_text().splitlines():
        assert "://" not in line
        assert not re.search(r"(^|\s)(--(?!hash=sha256:)\S+|-[if]\b)", line), line
        assert not re.search(r"(^|[\s\"'=])[/~]", line), line


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_has_a_hash(lock: Path) -> None:
    requirements = re.split(r"\n(?=\S)", lock.read_text())
    pins = [text for text in requirements if not text.startswith("#")]

    assert pins
    assert [text.splitlines()[0] for text in pins if "==" not in text or "--hash=sha256:" not in text] == []


@pytest.mark.parametrize(("smaller", "larger"), [("runtime", "tracing"), ("tracing", "dev")])
def test_a_lock_contains_the_smaller_one(smaller: str, larger: str) -> None:
    inner, outer = (pinned(ROOT / "requirements" / f"{name}.txt") for name in (smaller, larger))

    assert inner == {name: versions for name, versions in outer.items() if name in inner}


@pytest.mark.parametrize("extra", ["", "tracing", "dev", "audit"])
def test_the_locks_satisfy_pyproject(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["optional-dependencies"][extra] if extra else project["dependencies"]
    pins = pinned(ROOT / "requirements" / f"{extra or 'runtime'}.txt") | pinned(
        ROOT / "requirements" / "llama.txt"
    )

    for requirement in map(Requirement, wanted):
        assert pins[requirement.name], f"{requirement}: run `make lock`"
        assert all(requirement.specifier.contains(version) for version in pins[requirement.name]), requirement


def test_llama_cpp_python_is_locked_to_the_version_in_pyproject() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (version,) = pinned(ROOT / "requirements" / "llama.txt")["llama-cpp-python"]

    assert f"llama-cpp-python=={version}" in dependencies


def test_only_the_build_of_llama_cpp_waits_for_its_own_lock() -> None:
    assert "llama-cpp-python" not in pinned(ROOT / "requirements" / "runtime.txt")
    assert set(pinned(ROOT / "requirements" / "llama.txt")) == {"llama-cpp-python"}
