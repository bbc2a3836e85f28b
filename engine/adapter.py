"""LoRA adapters: what the operator loads beside a model, and what a request asks for."""

from __future__ import annotations

import msgspec


class Adapter(msgspec.Struct, frozen=True):
    """A LoRA adapter in a GGUF file, loaded with its model."""

    name: str
    path: str
    scale: float = 1.0
    """How strongly it counts where a request does not say."""
    version: str = ""
    """Another one is another file, as far as whoever names it can tell."""


class AdapterUse(msgspec.Struct, frozen=True):
    """That a request wants the adapter of this name."""

    name: str
    scale: float | None = None
    """None is the adapter's own."""
