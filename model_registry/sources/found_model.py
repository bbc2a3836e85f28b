"""A model file that a source has found."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from model_registry.sources.found_adapter import FoundAdapter
from model_registry.sources.header_facts import HeaderFacts


class FoundModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model on disk, known by its header only."""

    id: str
    path: Path
    """The file to load; for a split model its first part, next to which the library finds the others."""
    file_bytes: int
    """All parts together."""
    created: int
    """Unix seconds of the file's last change."""
    changed_ns: int = 0
    """The same to the nanosecond, of the part that changed last."""
    owned_by: str
    sha256: str | None = None
    """What its digest must be, where the source knows that; of a file that people put there nobody does."""
    failure: str | None = None
    """Why it cannot be served, as far as its header and its length tell, and what mends it."""
    header: HeaderFacts | None = None
    """What its header says of it; None where it cannot be served."""
    origin: str = ""
    """Where it is from, as ``nibble pull`` takes it, where the source knows that."""

    @property
    def version(self) -> tuple[Path, int, int]:
        """Another one is another model, or the same one while it is still being copied."""
        return self.path, self.file_bytes, self.changed_ns


class Findings(msgspec.Struct, frozen=True):
    """What a source found, in a stable order, and what it had to leave out."""

    models: tuple[FoundModel, ...] = ()
    adapters: tuple[FoundAdapter, ...] = ()
    problems: tuple[str, ...] = ()
    """One sentence each, for the log: files that could not become models at all."""


class ModelSource(Protocol):
    """A place that holds model files. Stateless but for what it remembers on disk."""

    def find(self) -> Findings:
        """Look, quickly (no hashing); a file that cannot be served is found with its ``failure``."""
        ...

    def signature(self) -> object:
        """Changes with what ``find`` would tell; cheap enough to be asked all the time."""
        ...

    def check(self, model: FoundModel) -> None:
        """Blocking check before a load; may read the whole file. Raises ModelLoadFailed, with the mend."""
        ...

    def files(self, model: FoundModel) -> tuple[Path, ...]:
        """Every file of the model, the one to load first. Raises ValueError where they must not be deleted."""
        ...
