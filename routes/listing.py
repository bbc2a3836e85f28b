"""The one shape of every list that is answered: OpenAI's."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

import msgspec

ItemT = TypeVar("ItemT")


class Listing(msgspec.Struct, Generic[ItemT], frozen=True, kw_only=True):
    """All of what was asked for: nothing here is told page by page."""

    object: Literal["list"] = "list"
    data: tuple[ItemT, ...]
