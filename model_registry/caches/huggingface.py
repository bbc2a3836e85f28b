"""Hugging Face's cache: ``models--OWNER--REPO/snapshots/REVISION/FILE``, a link to ``blobs/DIGEST``.

Docs: huggingface.co/docs/huggingface_hub/guides/manage-cache.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from model_registry.caches.cached_model import CachedModel, gguf_files, whole_models

_PREFIX = "models--"


def roots(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """As huggingface_hub finds it."""
    if cache := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return [Path(cache).expanduser()]
    base = environ.get("HF_HOME") or Path(environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return [Path(base).expanduser() / "hub"]


def models(root: Path) -> list[CachedModel]:
    """Every whole model of each repository's main revision, by name."""
    found = []
    for repository in sorted(root.glob(f"{_PREFIX}*--*")):
        snapshot = _snapshot(repository)
        if snapshot is None:
            continue
        owner_and_name = repository.name.removeprefix(_PREFIX).replace("--", "/", 1)
        for key, parts in whole_models(gguf_files(snapshot)).items():
            name = Path(key).relative_to(snapshot).as_posix()
            found.append(
                CachedModel(
                    cache="huggingface",
                    name=f"{owner_and_name}:{name}",
                    # What the links lead to: they go with the revision, and the blob may stay with the next.
                    files=tuple((path.name, path.resolve()) for path in parts),
                    source=f"hf:{owner_and_name}:{name.rpartition('/')[2]}",
                )
            )
    return sorted(found, key=lambda model: model.name)


def _snapshot(repository: Path) -> Path | None:
    """The revision that ``main`` is; without that reference the one that was fetched last."""
    snapshots = repository / "snapshots"
    try:
        named = snapshots / (repository / "refs" / "main").read_text(encoding="ascii").strip()
        if named.is_dir() and named.parent == snapshots:
            return named
    except (OSError, UnicodeDecodeError):
        pass
    try:
        return max(
            (path for path in snapshots.iterdir() if path.is_dir()),
            key=lambda path: path.stat().st_mtime_ns,
            default=None,
        )
    except OSError:
        return None
