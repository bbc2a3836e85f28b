"""What the registry is told at start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from engine.config import EngineConfig
from model_registry.model_adapter import ModelAdapter
from model_registry.model_settings import ModelSettings


class RegistryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where models are, which to load at start, and how engines are made."""

    data_dir: Path
    """Holds what the server remembers between starts. Made when needed."""
    models_dir: Path | None = None
    """Every ``*.gguf`` directly in it is a model; None or a missing directory means none."""
    preload: tuple[str, ...] = ()
    """Ids to load at start; empty means the first one that loads, the directory's before the bundled."""
    embed: tuple[str, ...] = ()
    """Ids of models that are loaded for vectors although they could generate text."""
    matryoshka: tuple[str, ...] = ()
    """Ids of models that were trained so that their vectors may be cut."""
    adapters: tuple[ModelAdapter, ...] = ()
    """LoRA adapters; each makes one more id, of its model with it."""
    engine: EngineConfig = EngineConfig(model_id="", model_path="")
    """Template of every engine's configuration; id and path are filled in per model."""
    models: Mapping[str, ModelSettings] = {}
    """Settings of single models, by id; they say more than those in the store."""
    memory_budget_bytes: int | None = None
    """What all models together may hold, by estimate; None is what the machine has left."""
    keep_alive_s: float | None = None
    """Seconds without use after which a model is unloaded, where it has no such time of its own; None is never."""
    watch_s: float = 0.0
    """Seconds between two looks at files and store for what has changed; 0 looks at the start alone."""
    retry_pause_s: float = 5.0
    """A failed load is answered from memory for this long, then tried anew by the next request."""

    @property
    def draft_bytes(self) -> int:
        """Size of the draft model's file; 0 where there is none, or none that can be read: loading says so."""
        path = self.engine.draft_model_path
        try:
            return 0 if path is None else Path(path).stat().st_size
        except OSError:
            return 0
