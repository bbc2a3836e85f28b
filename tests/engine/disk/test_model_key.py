"""The key of a model's prefixes: another file or another setting is another key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.disk.model_key import model_key


def _file(path: Path, content: bytes | bytearray, changed_ns: int = 10**18) -> Path:
    path.write_bytes(content)
    os.utime(path, ns=(changed_ns, changed_ns))
    return path


def test_the_same_file_and_settings_have_the_same_key(tmp_path: Path) -> None:
    one, other = _file(tmp_path / "a.gguf", b"x" * 5000), _file(tmp_path / "b.gguf", b"x" * 5000)
    assert model_key(one, cache_type="f16") == model_key(other, cache_type="f16")
    assert model_key(one, cache_type="f16") != model_key(one, cache_type="q8_0")
    assert model_key(one, a=1, b=2) == model_key(one, b=2, a=1)


@pytest.mark.parametrize("at", [0, 100, (1 << 20) + 50, 3 << 20])
def test_a_change_near_either_end_is_another_key(tmp_path: Path, at: int) -> None:
    content = bytearray((3 << 20) + 1)
    before = model_key(_file(tmp_path / "a.gguf", content))
    content[at] = 1
    is_seen = not 1 << 20 <= at < 2 << 20
    assert (model_key(_file(tmp_path / "a.gguf", content)) != before) == is_seen
    assert model_key(_file(tmp_path / "a.gguf", content, 10**18 + 1)) != before, (
        "in the middle, the time tells"
    )


def test_a_model_in_several_files_counts_with_each(tmp_path: Path) -> None:
    first = _file(tmp_path / "m[1]-00001-of-00002.gguf", b"one")
    _file(tmp_path / "m[1]-00002-of-00002.gguf", b"two")
    _file(tmp_path / "m1-00002-of-00002.gguf", b"another model's")
    before = model_key(first)
    _file(tmp_path / "m1-00002-of-00002.gguf", b"changed")
    assert model_key(first) == before
    _file(tmp_path / "m[1]-00002-of-00002.gguf", b"too")
    assert model_key(first) != before
