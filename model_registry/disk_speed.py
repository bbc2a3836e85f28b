"""How fast a disk reads a model's file, found out by reading a little of it, from where memory has none of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_MOST_S = 0.2
_WINDOWS, _WINDOW_BYTES = 8, 8 << 20
"""Places in the file, evenly spread: what a disk has lately read it may have in a memory of its own."""
_PIECE_BYTES = 1 << 20
"""Read between two looks at the clock."""


def disk_bytes_s(path: Path) -> float | None:
    """Bytes a second; None where nobody can tell. Blocks for some 0.2 s, or until a disk that is not well answers.

    It reads as the kernel does for a mapping, ahead and into the page cache, which is told to forget those places of
    the file before. Pages that a process has mapped stay there; such a place is left out.
    """
    if not hasattr(os, "posix_fadvise"):  # macOS
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            pieces = _pieces_read(descriptor, os.fstat(descriptor).st_size)
            return sampled_bytes_s(pieces, time.perf_counter)
        finally:
            os.close(descriptor)
    except OSError:
        return None


def sampled_bytes_s(pieces: Iterator[int], clock: Callable[[], float]) -> float | None:
    """The speed at which ``pieces``, each so many bytes, come; no more are asked for after 0.2 s by ``clock``."""
    begun = now = clock()
    done = 0
    for piece in pieces:
        done += piece
        now = clock()
        if now - begun >= _MOST_S:
            break
    return done / (now - begun) if done and now > begun else None


def windows(size: int) -> list[tuple[int, int]]:
    """Where to read in a file of ``size`` bytes: beginnings and lengths, of which none overlap."""
    length = min(_WINDOW_BYTES, size // _WINDOWS // _PIECE_BYTES * _PIECE_BYTES)
    if not length:
        return []
    step = size // _WINDOWS
    return [(place * step // _PIECE_BYTES * _PIECE_BYTES, length) for place in range(_WINDOWS)]


def _pieces_read(descriptor: int, size: int) -> Iterator[int]:
    buffer = bytearray(_PIECE_BYTES)
    for begin, length in windows(size):
        os.posix_fadvise(descriptor, begin, length, os.POSIX_FADV_DONTNEED)
        if _is_cached(descriptor, begin):
            continue
        for offset in range(begin, begin + length, _PIECE_BYTES):
            yield os.preadv(descriptor, [buffer], offset)


def _is_cached(descriptor: int, offset: int) -> bool:
    """Whether memory has the byte there still. Where the file system cannot tell, it has not."""
    try:
        return bool(os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT))
    except OSError:
        return False
