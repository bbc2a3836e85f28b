"""A model in several files is told with all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.loader import load_generator
from engine.shards import shards, shards_bytes
from tests.fixtures.tiny_gguf import Tiny, write_tiny


def test_a_name_that_is_no_part_s_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "m-1-of-2.gguf"
    path.write_bytes(b"12345")
    assert (shards(path), shards_bytes(path)) == ([path], 5)


@pytest.mark.parametrize("is_first_bare", [False, True])
def test_what_is_loaded_tells_the_bytes_of_all_its_parts(tmp_path: Path, is_first_bare: bool) -> None:
    write_tiny(tmp_path / "tiny.gguf", Tiny(part_tensors=5, is_first_bare=is_first_bare))
    parts = sorted(tmp_path.glob("*.gguf"))
    assert len(parts) > 1
    assert shards(parts[0]) == parts
    loaded = load_generator(EngineConfig(model_id="tiny", model_path=str(parts[0]), threads=1, context=64))
    assert loaded.facts.file_bytes == sum(part.stat().st_size for part in parts)
