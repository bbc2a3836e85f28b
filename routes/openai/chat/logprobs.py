"""Log-probabilities as chat completions write them."""

from __future__ import annotations

import msgspec

from engine.token_logprob import Alternative, TokenLogprob


class WireAlternative(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None
    """Null for a control token, which stands for no text."""


class WireTokenLogprob(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None
    top_logprobs: tuple[WireAlternative, ...]


class ChatLogprobs(msgspec.Struct, frozen=True):
    content: tuple[WireTokenLogprob, ...]
    refusal: None = None


def chat_logprobs(tokens: tuple[TokenLogprob, ...] | None) -> ChatLogprobs | None:
    """The ``logprobs`` of a choice, or of its part in a chunk; null where none were asked for."""
    return None if tokens is None else ChatLogprobs(tuple(_scored(token) for token in tokens))


def _scored(token: TokenLogprob) -> WireTokenLogprob:
    top = tuple(WireAlternative(_name(other.raw), other.logprob, _bytes_of(other)) for other in token.top)
    # Only the first token of a prompt has no figure, and a chat shows its answer alone.
    return WireTokenLogprob(_name(token.raw), token.logprob or 0.0, _bytes_of(token), top)


def _name(raw: bytes) -> str:
    """The text of a token; what is no whole character is written as ``\\xf0``, as OpenAI does."""
    return raw.decode("utf-8", "backslashreplace")


def _bytes_of(token: TokenLogprob | Alternative) -> tuple[int, ...] | None:
    return tuple(token.raw) if token.is_text else None
