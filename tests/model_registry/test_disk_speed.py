"""How fast the disk is: the places are spread and bounded, and what memory has is not taken for the disk."""

from __future__ import annotations

import itertools
import mmap
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_registry.disk_speed import disk_bytes_s, is_cached, sampled_bytes_s, windows

MIB = 1 << 20


@given(pieces=st.lists(st.integers(0, MIB), max_size=100), step=st.floats(1e-6, 10))
def test_the_speed_is_that_of_what_came_in_its_time(pieces: list[int], step: float) -> None:
    times = (step * count for count in itertools.count())
    left = iter(pieces)
    speed = sampled_bytes_s(left, lambda: next(times))
    asked = pieces[: len(pieces) - len(list(left))]
    if sum(asked):
        assert speed == pytest.approx(sum(asked) / (step * len(asked)))
    else:
        assert speed is None
    assert step * (len(asked) - 1) < 0.2, "none is asked for when the time is over"


def test_a_clock_that_stands_still_tells_no_speed() -> None:
    assert sampled_bytes_s(iter([MIB]), lambda: 1.0) is None


@given(st.integers(0, 1 << 45))
def test_places_are_spread_and_do_not_overlap(size: int) -> None:
    found = windows(size)
    assert len(found) == (8 if size >= 8 * MIB else 0)
    assert sum(length for _, length in found) <= 64 * MIB
    for (begin, length), (following, _) in itertools.pairwise([*found, (size, 0)]):
        assert begin % MIB == 0
        assert 0 < length <= following - begin


def test_a_real_disk_has_a_speed_and_what_is_no_file_has_none(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(16 * MIB))
    with path.open("rb") as file:
        os.fsync(file.fileno())
    speed = disk_bytes_s(path)
    assert speed is None or speed > 0
    path.write_bytes(b"too little to tell")
    assert disk_bytes_s(path) is None
    assert disk_bytes_s(tmp_path) is None
    assert disk_bytes_s(tmp_path / "nothing") is None


def test_to_look_whether_memory_has_a_page_does_not_fetch_it(tmp_path: Path) -> None:
    """A read that does not wait does, and 1 to 2 of 100 found the page then; where all eight places of a file did, the
    warning told no speed."""
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(16 * MIB))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        assert is_cached(file.fileno(), 0), "it was just written"
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if is_cached(file.fileno(), 0):
            pytest.skip("this file system keeps its files in memory")
        assert not any(is_cached(file.fileno(), place * MIB) for _ in range(100) for place in range(16))


def test_what_another_process_has_mapped_is_not_taken_for_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(16 * MIB))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError as error:
            pytest.skip(f"this file system does not tell what memory has of it: {error}")
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping:
            assert sum(mapping[:: mmap.PAGESIZE]) == 0
            assert disk_bytes_s(path) is None
