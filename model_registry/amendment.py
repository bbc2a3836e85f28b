"""What an admin changes about a model."""

from __future__ import annotations

import msgspec

from model_registry.model_settings import ModelSettings


class Amendment(msgspec.Struct, frozen=True, kw_only=True):
    """New words for a model; None leaves what is said. Settings and aliases replace all that there were."""

    aliases: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    notes: str | None = None
    settings: ModelSettings | None = None
