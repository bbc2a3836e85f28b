"""How a request holds a model."""

from __future__ import annotations

from dataclasses import dataclass

from model_registry.card import ModelCard
from model_registry.engine_handle import EngineHandle


@dataclass(frozen=True, slots=True)
class Lease:
    """A loaded model, held: it is not unloaded before the ``async with`` that gave the lease is left."""

    card: ModelCard
    engine: EngineHandle
