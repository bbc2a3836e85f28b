"""A model file that a source has found."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec


class FoundModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model on disk, known by its first bytes only."""

    id: str
    path: Path
    """The file to load; for a split model its first part, next to which the library finds the others."""
    file_bytes: int
    """All parts together."""
    created: int
    """Unix seconds of the file's last change."""
    owned_by: str
    failure: str | None = None
    """Why it cannot be served, as far as a glance can tell, and what mends it."""


class Findings(msgspec.Struct, frozen=True):
    """What a source found, in a stable order, and what it had to leave out."""

    models: tuple[FoundModel, ...] = ()
    problems: tuple[str, ...] = ()
    """One sentence each, for the log: files that could not become models at all."""


class ModelSource(Protocol):
    """A place that holds model files. Stateless but for what it remembers on disk."""

    def find(self) -> Findings:
        """Look, quickly (no hashing); a file that cannot be served is found with its ``failure``."""
        ...

    def check(self, model: FoundModel) -> None:
        """Blocking check before a load; may read the whole file. Raises ModelLoadFailed, with the mend."""
        ...
