"""How fast a disk reads a model's file, found out by reading a little of it, from where memory has none of it."""

from __future__ import annotations

import ctypes
import functools
import mmap
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
        if is_cached(descriptor, begin):
            continue
        for offset in range(begin, begin + length, _PIECE_BYTES):
            yield os.preadv(descriptor, [buffer], offset)


def is_cached(descriptor: int, offset: int) -> bool:
    """Whether memory has the page there, which begins at ``offset``. Where the file system cannot tell, it has not.

    To read without waiting is no question but a request: the kernel begins to read ahead, and a disk that is quick, or
    whose machine stands still meanwhile, has answered before the kernel looks. To ask the map of pages changes nothing,
    but of files that are another user's the kernel claims to have all (mincore(2)), so that both must say so.
    """
    try:
        if not _is_mapped_page_there(descriptor, offset):
            return False
        return bool(os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT))
    except OSError:
        return False


def _is_mapped_page_there(descriptor: int, offset: int) -> bool:
    there = (ctypes.c_ubyte * 1)()
    # Never written to: it is a copy on write because only of such memory ctypes tells the address.
    with mmap.mmap(descriptor, mmap.PAGESIZE, access=mmap.ACCESS_COPY, offset=offset) as page:
        first = ctypes.c_char.from_buffer(page)
        status = _c_library().mincore(
            ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(mmap.PAGESIZE), there
        )
        del first  # a page that is exported cannot be unmapped
    return status != 0 or bool(there[0] & 1)


@functools.cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
