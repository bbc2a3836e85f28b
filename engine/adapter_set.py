"""Which adapters a sequence is computed with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AdapterSet:
    """Adapters and their scales. Two that are equal compute the same, and nothing is shared between others."""

    scales: tuple[tuple[int, float], ...] = ()
    """Each adapter by its place in the engine's configuration, in that order; none has the scale 0."""
    key: str = ""
    """The same in terms that outlive the worker: what the files hold, not where they stand. Has no ``|``."""


NO_ADAPTERS = AdapterSet()
