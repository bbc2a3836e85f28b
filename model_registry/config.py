"""What the registry is told at start."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.config import EngineConfig


class RegistryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where models are, which to load at start, and how engines are made."""

    data_dir: Path
    """Holds what the server remembers between starts. Made when needed."""
    models_dir: Path | None = None
    """Every ``*.gguf`` directly in it is a model; None or a missing directory means none."""
    preload: tuple[str, ...] = ()
    """Ids to load at start; empty means the first one that loads, the directory's before the bundled."""
    engine: EngineConfig = EngineConfig(model_id="", model_path="")
    """Template of every engine's configuration; id and path are filled in per model."""
    retry_pause_s: float = 5.0
    """A failed load is answered from memory for this long, then tried anew by the next request."""
