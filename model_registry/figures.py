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
    """None while nothing is loaded."""
    restarts: int = 0
    """Deaths of the present engine's worker that it came back from."""
    load_s: float | None = None
    """How long the last load took, the check of the file included."""
