"""What nothing uses, and what is in use."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from engine.disk.label import write_label
from model_registry.blobs import Blobs
from model_registry.config import RegistryConfig
from model_registry.leftovers import Leftover, leftovers, remove
from model_registry.pruning import Pruning
from model_registry.pull.file_lock import file_lock, remove_lock
from model_registry.store.model_store import ModelStore
from tests.model_registry.fake_engine import write_gguf


@pytest.fixture
def home(tmp_path: Path) -> Path:
    models = tmp_path / "models"
    (models / ".packages").mkdir(parents=True)
    write_gguf(models / "kept.gguf")
    for name in (".a.gguf.part", ".a.gguf.part.json", ".a.gguf.lock", ".packages/p-1.0-py3-none-any.whl"):
        (models / name).write_bytes(b"12345")
    (models / "link.gguf").symlink_to(tmp_path / "nowhere.gguf")
    (models / "good-link.gguf").symlink_to(models / "kept.gguf")
    store = ModelStore.in_directory(tmp_path)
    store.add_aliases("gone", ["old-name"])
    store.describe("kept", notes="mine")
    for key, model in (("one", "gone.gguf"), ("two", "kept.gguf")):
        directory = tmp_path / "prefixes" / key
        directory.mkdir(parents=True)
        (directory / "x.prefix").write_bytes(b"123")
        path = models / model
        if model == "gone.gguf":
            write_gguf(path)
        write_label(tmp_path / "prefixes", key, path)
    (models / "gone.gguf").unlink()
    for name in ("stray", "named"):
        content = models / ".new"
        content.write_bytes(name.encode())
        Blobs(models).keep(content, hashlib.sha256(name.encode()).hexdigest(), f"{name}.gguf")
    (models / "stray.gguf").unlink()
    (tmp_path / "prefixes" / "unlabelled").mkdir()
    return tmp_path


def found(home: Path) -> list[Leftover]:
    return leftovers(home / "models", home, {"kept", "good-link"})


def told(home: Path) -> set[tuple[str, str]]:
    return {(each.kind, Path(each.what).name) for each in found(home)}


def test_a_disk_that_is_not_mounted_costs_no_record(home: Path) -> None:
    """Its mount point is an empty directory, or none."""
    models = home / "models"
    models.rename(home / "away")
    assert leftovers(models, home, {"smollm2-135m-instruct"}) == [
        each for each in leftovers(models, home, set()) if each.kind == "prefixes"
    ]
    models.mkdir()
    assert {each.kind for each in leftovers(models, home, set())} == {"prefixes"}
    assert "old-name" in ModelStore.in_directory(home).record("gone").aliases


def test_everything_that_nothing_uses_is_found_and_goes(home: Path) -> None:
    assert told(home) == {
        ("partial download", ".a.gguf.part"),
        ("partial download", ".a.gguf.part.json"),
        ("lock", ".a.gguf.lock"),
        ("package", "p-1.0-py3-none-any.whl"),
        ("blob", f"sha256-{hashlib.sha256(b'stray').hexdigest()}"),
        ("dangling link", "link.gguf"),
        ("record", "gone"),
        ("prefixes", "one"),
    }
    record = next(each for each in found(home) if each.kind == "record")
    assert record.note == "its aliases would be lost"
    assert all(remove(each, home) for each in found(home))
    assert found(home) == []
    assert {path.name for path in (home / "models").iterdir()} == {
        ".packages",
        ".blobs",
        "kept.gguf",
        "good-link.gguf",
        "named.gguf",
    }
    assert (home / "models" / "named.gguf").read_bytes() == b"named"
    assert {path.name for path in (home / "prefixes").iterdir()} == {"two", "two.model", "unlabelled"}
    assert set(ModelStore.in_directory(home).records()) == {"kept"}


def test_what_a_running_pull_writes_stays(home: Path) -> None:
    before = found(home)
    with file_lock(home / "models" / ".a.gguf.lock"):
        assert not {"partial download", "lock"} & {kind for kind, _ in told(home)}
        # Found before the pull began, and to be removed after.
        kept = [each for each in before if not remove(each, home)]
    assert {each.kind for each in kept} == {"partial download", "lock"}
    assert (home / "models" / ".a.gguf.part").exists()


def test_a_link_whose_disk_has_come_back_stays(home: Path) -> None:
    link = next(each for each in found(home) if each.kind == "dangling link")
    write_gguf(home / "nowhere.gguf")
    assert not remove(link, home)
    assert (home / "models" / "link.gguf").exists()


def test_a_blob_that_has_got_a_name_again_stays(home: Path) -> None:
    blob = next(each for each in found(home) if each.kind == "blob")
    Blobs(home / "models").name(Path(blob.what).name.removeprefix("sha256-"), "again.gguf")
    assert not remove(blob, home)
    assert (home / "models" / "again.gguf").read_bytes() == b"stray"


def test_there_is_nothing_where_nothing_is(tmp_path: Path) -> None:
    assert leftovers(tmp_path / "models", tmp_path, set()) == []


def test_a_lock_that_is_removed_lets_nobody_in_beside_its_holder(tmp_path: Path) -> None:
    """Who has waited for the file that is gone must not believe that he has the lock."""
    path = tmp_path / "lock"
    with file_lock(path):
        assert not remove_lock(path)
    assert remove_lock(path)
    assert remove_lock(path), "harmless where none is"
    with file_lock(path):
        path.unlink()
        with file_lock(path):
            assert not remove_lock(path)


def test_one_that_cannot_go_is_told_and_the_others_go(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pruning = Pruning(RegistryConfig(data_dir=home, models_dir=home / "models"))
    there = pruning.find()
    assert {(each.kind, Path(each.what).name) for each in there} == told(home)
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == "link.gguf":
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    pruned = pruning.remove(there)
    assert [each.what for each in pruned if not each.removed] == [str(home / "models" / "link.gguf")]
    assert [each.problem for each in pruned if each.problem] == [
        f"{home}/models/link.gguf cannot be removed (Permission denied)"
    ]
    assert [each.kind for each in pruning.find()] == ["dangling link"]
