"""What the registry tells the metrics about one model."""

from __future__ import annotations

import msgspec

from engine.config import EngineStats
from model_registry.state import ModelState


class ModelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Newest figures of one model; taking them never loads anything."""

    id: str
    state: ModelState
    stats: EngineStats | None = None
    """None until it was loaded once. Totals are those of all its engines: unloading loses none."""
    is_loaded: bool = True
    """Whether there is an engine; without one, only the totals of ``stats`` mean something."""
    restarts: int = 0
    """Deaths of its workers that its engines came back from."""
    stalls: int = 0
    """Those of them that were silent, and were ended for it."""
    load_s: float | None = None
    """How long the last load took, the check of the file included."""
