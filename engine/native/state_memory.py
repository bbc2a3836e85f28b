"""Memory for the states of slots, which are saved between two steps, while every stream waits.

From numpy it would come page by page as it is written; and as workers ask for huge pages (engine.worker_process), the
kernel looks for some first, and moves others out of the way. Of 3.7 MB that took 6 to 8 ms, where copying takes 0.8.
Asked for whole, in small pages, they are there in 2 (AMD EPYC, a virtual machine, medians of 24 in turns).
"""

from __future__ import annotations

import mmap

import numpy as np

from engine.backend import SlotState

_LEAST_MAPPED = 2**20
"""Bytes. A process may have some 65,000 mappings, too few for one to every short state, which costs little anyway."""
_POPULATE: int = getattr(mmap, "MAP_POPULATE", 0)
"""Linux has it."""


def state_memory(size_bytes: int) -> SlotState:
    """Writable bytes, of any content. Raises MemoryError."""
    if size_bytes < _LEAST_MAPPED or not _POPULATE:
        return np.empty(size_bytes, dtype=np.uint8)
    try:
        pages = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _POPULATE)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"no {size_bytes} bytes for the state of a slot") from error
    return np.frombuffer(pages, dtype=np.uint8)
