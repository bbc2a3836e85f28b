"""The SHA-256 of a file, which for gigabytes is a while: it tells how far it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

_PIECE_BYTES = 8 << 20
"""After each piece this thread waits for its turn among Python's others, up to 5 ms while the server is importing."""


def file_digest(path: Path, progress: Callable[[int], object] = lambda here: None) -> str:
    """In hex. ``progress`` is told the bytes read so far; raising ends the reading. Raises OSError."""
    digest, here = hashlib.sha256(), 0
    piece = memoryview(bytearray(_PIECE_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            digest.update(piece[:count])
            here += count
            progress(here)
    return digest.hexdigest()
