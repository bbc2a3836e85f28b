"""The SHA-256 of a file, which for gigabytes is a while: it tells how far it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

_PIECE_BYTES = 1 << 20


def file_digest(path: Path, progress: Callable[[int], object] = lambda here: None) -> str:
    """In hex. ``progress`` is told the bytes read so far; raising ends the reading. Raises OSError."""
    digest, here = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            here += len(piece)
            progress(here)
    return digest.hexdigest()
