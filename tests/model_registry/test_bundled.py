from __future__ import annotations

import hashlib
import os
from importlib import metadata
from pathlib import Path

import pytest

from engine.errors import ModelLoadFailed
from model_registry.sources import bundled
from model_registry.sources.bundled import BUNDLED_ID, BundledSource
from tests.model_registry.fake_engine import write_gguf


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small file that passes for the bundled model."""
    path = write_gguf(tmp_path / "small.gguf")
    monkeypatch.setattr(bundled, "_BYTES", 68)
    return path


def right_hash(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())


def test_it_is_hashed_once(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right_hash(small, monkeypatch)
    source = BundledSource(tmp_path / "data", small)
    model = source.find().models[0]
    assert (model.id, model.owned_by, model.failure) == (BUNDLED_ID, "nibble", None)
    source.check(model)
    monkeypatch.setattr(bundled, "file_digest", lambda _: pytest.fail("hashed again"))
    BundledSource(tmp_path / "data", small).check(model)


def test_a_changed_file_is_hashed_again(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right_hash(small, monkeypatch)
    source = BundledSource(tmp_path / "data", small)
    model = source.find().models[0]
    source.check(model)
    small.write_bytes(small.read_bytes()[:-1] + b"x")
    os.utime(small, ns=(1, 1))  # the clock of files is coarser than this test is quick
    with pytest.raises(ModelLoadFailed, match=r"not the file it should be.*make setup"):
        source.check(model)


def test_a_wrong_hash_and_a_wrong_size_name_the_mend(small: Path, tmp_path: Path) -> None:
    source = BundledSource(tmp_path / "data", small)
    model = source.find().models[0]
    with pytest.raises(ModelLoadFailed, match="make setup"):
        source.check(model)
    write_gguf(small, tail=b"more")
    with pytest.raises(ModelLoadFailed, match=r"72 bytes instead of 68.*make setup"):
        source.check(model)
    small.unlink()
    with pytest.raises(ModelLoadFailed, match=r"cannot be read.*make setup"):
        source.check(model)
    assert "make setup" in source.find().problems[0]


def test_a_directory_that_cannot_be_written_only_costs_the_memory(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right_hash(small, monkeypatch)
    (tmp_path / "data").write_text("a file in the way")
    source = BundledSource(tmp_path / "data", small)
    source.check(source.find().models[0])
    source.check(source.find().models[0])


def test_without_the_package_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    assert BundledSource(tmp_path).find().models == ()


@pytest.mark.model
def test_the_real_one_is_found_and_right(tmp_path: Path) -> None:
    source = BundledSource(tmp_path)
    model = source.find().models[0]
    assert model.failure is None
    assert model.file_bytes == 98_362_432
    source.check(model)
    assert (tmp_path / "verified-bundled.json").exists()
