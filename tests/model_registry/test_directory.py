from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import ModelLoadFailed
from model_registry.sources.directory import DirectorySource
from model_registry.sources.file_look import layouts_read
from model_registry.sources.gguf_header import header_problem
from tests.fixtures.tiny_gguf import write_tiny
from tests.model_registry.fake_engine import write_gguf


def test_every_gguf_directly_in_the_directory_is_a_model(tmp_path: Path) -> None:
    write_gguf(tmp_path / "Qwen2.5-0.5B-Q4_K_M.gguf", tail=b"1234")
    write_gguf(tmp_path / "b.GGUF")
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "deeper").mkdir()
    write_gguf(tmp_path / "deeper" / "c.gguf")
    findings = DirectorySource(tmp_path).find()
    assert [model.id for model in findings.models] == ["b", "qwen2.5-0.5b-q4_k_m"]
    assert findings.models[1].file_bytes == 72
    assert findings.models[1].owned_by == "local"
    assert findings.models[1].created == int((tmp_path / "b.GGUF").stat().st_mtime)
    assert not findings.problems


def test_two_files_with_one_id_are_told(tmp_path: Path) -> None:
    write_gguf(tmp_path / "A.gguf")
    write_gguf(tmp_path / "a.gguf")
    findings = DirectorySource(tmp_path).find()
    assert [model.path.name for model in findings.models] == ["A.gguf"]
    assert len(findings.problems) == 1
    assert "its id 'a' is that of A.gguf; rename one" in findings.problems[0]


def test_a_missing_directory_and_a_dangling_link_are_told(tmp_path: Path) -> None:
    assert "No such file" in DirectorySource(tmp_path / "none").find().problems[0]
    (tmp_path / "gone.gguf").symlink_to(tmp_path / "nowhere")
    findings = DirectorySource(tmp_path).find()
    assert not findings.models
    assert "gone.gguf is not served" in findings.problems[0]


def test_a_split_model_is_one_model(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_gguf(tmp_path / f"Big-0000{number}-of-00003.gguf")
    findings = DirectorySource(tmp_path).find()
    assert [(model.id, model.file_bytes, model.failure) for model in findings.models] == [("big", 204, None)]
    (tmp_path / "Big-00002-of-00003.gguf").unlink()
    failure = DirectorySource(tmp_path).find().models[0].failure
    assert failure is not None
    assert "Big-00002-of-00003.gguf is missing: download all 00003 parts" in failure
    (tmp_path / "Big-00001-of-00003.gguf").unlink()
    findings = DirectorySource(tmp_path).find()
    assert not findings.models
    assert "its first part Big-00001-of-00003.gguf is missing" in findings.problems[0]


HEADER = b"GGUF" + (3).to_bytes(4, "little")
BAD_FILES = {
    "empty": (b"", "is empty: download"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 98362432\n", "git lfs pull"),
    "page": (b"\n<!DOCTYPE html><html>", "is a web page"),
    "other": (b"PK\x03\x04 a zip file, and quite a long one", "is not a GGUF file: convert"),
    "short": (HEADER + b"\x01", "ends inside its header"),
    "old": (b"GGUF" + (1).to_bytes(4, "little") + bytes(16), "has GGUF version 1"),
    "big-endian": (b"GGUF" + (3).to_bytes(4, "big") + bytes(16), "big-endian"),
    "no tensors": (HEADER + bytes(16), "damaged header"),
    "too many": (HEADER + b"\xff" * 16, "damaged header"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_listed_with_cause_and_mend(tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    (tmp_path / "x.gguf").write_bytes(content)
    source = DirectorySource(tmp_path)
    model = source.find().models[0]
    assert model.failure is not None
    assert message in model.failure
    with pytest.raises(ModelLoadFailed, match=r"x\.gguf"):
        source.check(model)


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    assert "is no file: name a .gguf file" in str(header_problem(tmp_path))


def test_a_sound_file_passes(tmp_path: Path) -> None:
    write_gguf(tmp_path / "x.gguf")
    source = DirectorySource(tmp_path)
    source.check(source.find().models[0])


def test_a_file_that_is_cut_off_is_listed_with_its_mend_until_it_has_grown(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    source = DirectorySource(tmp_path)
    failure = source.find().models[0].failure
    assert failure is not None
    assert f"{path} ends before its weights do ({len(whole) // 2} of" in failure
    assert "download it again" in failure
    with pytest.raises(ModelLoadFailed, match="ends before its weights do"):
        source.check(source.find().models[0])
    path.write_bytes(whole)
    assert source.find().models[0].failure is None
    source.check(source.find().models[0])


def test_each_part_of_a_split_model_is_looked_at(tmp_path: Path) -> None:
    for number in (1, 2):
        write_tiny(tmp_path / f"big-0000{number}-of-00002.gguf")
    second = tmp_path / "big-00002-of-00002.gguf"
    os.truncate(second, second.stat().st_size // 2)
    source = DirectorySource(tmp_path)
    model = source.find().models[0]
    assert model.failure is not None
    assert model.failure.startswith(f"{second} ends before its weights do")
    with pytest.raises(ModelLoadFailed, match="ends before its weights do"):
        source.check(model)


def test_a_header_is_read_again_when_its_file_has_changed_and_not_before(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf")
    source = DirectorySource(tmp_path)
    source.find()
    before = layouts_read()
    for _ in range(3):
        source.find()
    assert layouts_read() == before
    # As a mend of the same length with the time of the original has it.
    stat = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    source.find()
    assert layouts_read() == before + 1
