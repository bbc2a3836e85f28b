"""What decides the bytes of a saved prefix, as one key: prefixes of another key are another model's."""

from __future__ import annotations

import hashlib
from pathlib import Path

from engine.shards import shards

_SAMPLE_BYTES = 1 << 20


def model_key(path: Path, **settings: object) -> str:
    """A key for the model file at ``path``, computed with ``settings``. Raises OSError.

    The file counts with its size, the time of its last change, and its first and last MiB. Hashing all of it
    would take seconds for what nobody does by accident: a change in the middle that keeps the time. A model in
    several files counts with each of them.
    """
    digest = hashlib.sha256()
    _count_files(digest, path)
    digest.update(repr(sorted(settings.items())).encode())
    return digest.hexdigest()[:32]


def file_key(path: Path) -> str:
    """A key for what the file at ``path`` holds, by the same signs. Raises OSError."""
    digest = hashlib.sha256()
    _count_files(digest, path)
    return digest.hexdigest()[:32]


def _count_files(digest: hashlib._Hash, path: Path) -> None:
    for shard in shards(path):
        facts = shard.stat()
        digest.update(f"{facts.st_size} {facts.st_mtime_ns} ".encode())
        with shard.open("rb") as file:
            digest.update(file.read(_SAMPLE_BYTES))
            file.seek(max(0, facts.st_size - _SAMPLE_BYTES))
            digest.update(file.read(_SAMPLE_BYTES))
