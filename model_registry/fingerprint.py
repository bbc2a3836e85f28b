"""``system_fingerprint``: one value for one model file and one build, whoever asks and whenever."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

_SAMPLE_BYTES = 1 << 16


def fingerprint(files: Sequence[Path], file_bytes: int) -> str:
    """``fp_`` and 12 hex digits from the size of all, the first and last 64 KiB of each, and the engine's version.

    Not the whole files: hashing tens of gigabytes at start is no price for a label. The head holds the model's
    metadata, the tail weights; the first of several files may hold no weights at all. One that cannot be read is told
    by its name.
    """
    digest = hashlib.sha256(f"{_engine_version()}:{file_bytes}:".encode())
    for path in files:
        try:
            with path.open("rb") as file:
                digest.update(file.read(_SAMPLE_BYTES))
                file.seek(-min(_SAMPLE_BYTES, path.stat().st_size), 2)
                digest.update(file.read(_SAMPLE_BYTES))
        except OSError:
            digest.update(path.name.encode())
    return f"fp_{digest.hexdigest()[:12]}"


def fingerprint_with(base: str, path: Path) -> str:
    """The same for the model of fingerprint ``base`` with the adapter at ``path``."""
    file_bytes = path.stat().st_size if path.is_file() else 0
    digest = hashlib.sha256(f"{base}:{fingerprint([path], file_bytes)}".encode())
    return f"fp_{digest.hexdigest()[:12]}"


def _engine_version() -> str:
    try:
        return metadata.version("llama-cpp-python")
    except metadata.PackageNotFoundError:
        return "none"
