"""What one request came to: gathered while it runs, logged in one line when it ends."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Literal

from generation.events import Usage

Outcome = Literal["ok", "error", "aborted"]


@dataclass(slots=True)
class RequestRecord:
    """Owned by the request's own task and those it starts. Holds no prompt and no answer."""

    request_id: str
    trace_id: str | None = None
    """Of OpenTelemetry, in hex."""
    key: str | None = None
    """The name of the API key."""
    model: str | None = None
    operation: str | None = None
    outcome: Outcome | None = None
    error: str | None = None
    """The kind, as in ``engine.errors``."""
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    first_text_s: float | None = None
    queue_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None

    def spend(self, usage: Usage) -> None:
        """Take what the request is charged with, where no end of its answer has told more: it broke off."""
        if self.completion_tokens is None:
            self.prompt_tokens, self.completion_tokens = usage.prompt_tokens, usage.completion_tokens

    def known(self) -> dict[str, str | int | float]:
        """The fields that have a value; seconds to the tenth of a millisecond."""
        known: dict[str, str | int | float] = {}
        for name in _NAMES:
            value = getattr(self, name)
            if value is not None:
                known[name] = round(value, 4) if isinstance(value, float) else value
        return known


_NAMES = tuple(field.name for field in fields(RequestRecord))


CURRENT: ContextVar[RequestRecord | None] = ContextVar("nibble_request", default=None)
"""Set by the outermost middleware; tasks that a request starts inherit it."""
