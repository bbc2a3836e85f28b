"""All that is told of one model with an adapter, by the command and by the admin's route."""

from __future__ import annotations

import msgspec


class AdapterDetail(msgspec.Struct, frozen=True, kw_only=True):
    """What it has of its own; the rest is its model's."""

    id: str
    parent: str
    """The id of the model by itself."""
    adapter: str
    path: str
    """Of the adapter's file."""
    file_bytes: int | None
    """Null for one that the setting ``adapters`` names."""
    failure: str | None
    """Why it cannot be served although its model can."""
