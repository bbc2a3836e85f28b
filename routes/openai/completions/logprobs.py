"""Log-probabilities as completions write them: four lists, one entry a token in each."""

from __future__ import annotations

import msgspec

from engine.token_logprob import TokenLogprob


class CompletionLogprobs(msgspec.Struct, frozen=True):
    tokens: tuple[str, ...]
    token_logprobs: tuple[float | None, ...]
    """Null for the first token of an echoed prompt."""
    top_logprobs: tuple[dict[str, float] | None, ...]
    """The likeliest tokens, and always the token itself too, as OpenAI has it."""
    text_offset: tuple[int, ...]
    """In characters (code points) of the choice's text, an echoed prompt included."""


def completion_logprobs(tokens: tuple[TokenLogprob, ...] | None) -> CompletionLogprobs | None:
    """The ``logprobs`` of a choice, or of its part in a chunk; null where none were asked for."""
    if tokens is None:
        return None
    return CompletionLogprobs(
        tuple(_name(token.raw) for token in tokens),
        tuple(token.logprob for token in tokens),
        tuple(_top(token) for token in tokens),
        tuple(token.offset for token in tokens),
    )


def _top(token: TokenLogprob) -> dict[str, float] | None:
    if token.logprob is None:
        return None
    # Two tokens may have one name (a control token and the same text): the likelier keeps it.
    top: dict[str, float] = {}
    for other in token.top:
        top.setdefault(_name(other.raw), other.logprob)
    top.setdefault(_name(token.raw), token.logprob)
    return top


def _name(raw: bytes) -> str:
    """The text of a token; of one that is no whole characters, its bytes, as OpenAI writes them."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
