"""A model in another program's cache."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

import msgspec

CacheName = Literal["ollama", "lmstudio", "huggingface"]
# How llama.cpp names the parts of a split model.
_PART = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)


class CachedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model that could be linked."""

    cache: CacheName
    name: str
    """What that program calls it; what a person names to import it."""
    files: tuple[tuple[str, Path], ...]
    """Name that the link gets, and what it leads to; all parts of a split model, the first one first."""
    source: str
    """Where it came from, as far as the cache tells."""
    notes: tuple[str, ...] = ()
    """What the cache knows of it and is not used."""

    @property
    def file_bytes(self) -> int:
        return sum(path.stat().st_size for _, path in self.files)


class ListedModel(msgspec.Struct, frozen=True, kw_only=True, rename={"cache": "from"}):
    """The same as programs are told of it."""

    cache: CacheName
    name: str
    file_bytes: int
    paths: tuple[str, ...]
    """All parts of a split model, the first one first."""
    notes: tuple[str, ...]
    """What the cache knows of it and is not used."""


def listed(model: CachedModel) -> ListedModel:
    """What a person is told who asks what there is to import."""
    return ListedModel(
        cache=model.cache,
        name=model.name,
        file_bytes=model.file_bytes,
        paths=tuple(str(path) for _, path in model.files),
        notes=model.notes,
    )


def gguf_files(root: Path) -> list[Path]:
    """Every GGUF file below ``root``, those that belong to pictures left out; sorted. Never raises OSError."""
    found = []
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if name.lower().endswith(".gguf") and "mmproj" not in name.lower() and path.is_file():
                found.append(path)
    return sorted(found)


def whole_models(files: list[Path]) -> dict[str, list[Path]]:
    """Files by the name of the model: one each, or all parts of one; what lacks a part is left out."""
    models: dict[str, list[Path]] = {}
    for path in files:
        part = _PART.fullmatch(path.name)
        key = f"{path.parent / part['name']}" if part else f"{path.with_suffix('')}"
        models.setdefault(key, []).append(path)
    return {key: parts for key, parts in models.items() if _is_whole(parts)}


def _is_whole(parts: list[Path]) -> bool:
    part = _PART.fullmatch(parts[0].name)
    return part is None or len(parts) == int(part["count"])
