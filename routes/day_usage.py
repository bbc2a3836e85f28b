"""What one key used of one model on one day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class DayUsage(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the ledger. Tokens are those that clients were told, or sent before an answer broke off."""

    day: str
    """UTC, as in 2026-01-31."""
    key: str
    """The key's name; empty where no key was asked for."""
    model: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    """Of the prompt tokens, those that did not have to be computed."""
    completion_tokens: int


class UsageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows; None is all."""

    key: str | None = None
    model: str | None = None
    since: str | None = None
    """The first day, as in 2026-01-31."""
    until: str | None = None
    """The last day, which is among them."""


class UsagePort(Protocol):
    async def usage(self, query: UsageQuery) -> Sequence[DayUsage]:
        """By day, key and model, with all that ended until now. Raises ModelUnavailable when it cannot be read."""
        ...
