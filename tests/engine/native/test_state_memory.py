"""Memory that saved slots are written to."""

from __future__ import annotations

import mmap

import numpy as np
import psutil
import pytest

from engine.native.state_memory import state_memory


@pytest.mark.parametrize("size", [1, 4095, 2**20 - 1, 2**20, 2**20 + 1, 5_000_001])
def test_it_is_as_many_bytes_as_were_asked_for_and_can_be_written(size: int) -> None:
    state = state_memory(size)
    assert state.dtype == np.uint8
    assert state.shape == (size,)
    assert state.flags.c_contiguous
    state[:] = 7
    state[-1] = 8
    assert int(state.sum(dtype=np.int64)) == 7 * size + 1


def test_it_outlives_its_maker_and_is_given_back_at_the_end() -> None:
    before = psutil.Process().memory_info().rss
    states = [state_memory(2**24) for _ in range(4)]
    parts = [state[-5:] for state in states]
    for number, part in enumerate(parts):
        part[:] = number
    del states
    assert [int(part[0]) for part in parts] == [0, 1, 2, 3]
    del parts, part
    assert psutil.Process().memory_info().rss < before + 2**24


@pytest.mark.skipif(not hasattr(mmap, "MAP_POPULATE"), reason="only Linux gives all pages at once")
def test_all_of_it_is_there_before_it_is_written() -> None:
    before = psutil.Process().memory_info().rss
    state = state_memory(2**26)
    assert psutil.Process().memory_info().rss - before > 0.9 * len(state)


def test_what_there_is_no_room_for_is_a_memory_error() -> None:
    with pytest.raises(MemoryError):
        state_memory(2**60)
    with pytest.raises(MemoryError):
        state_memory(2**70)
