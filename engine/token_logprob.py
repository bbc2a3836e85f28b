"""How likely the model found a token, and which others it found likelier: what answers show of its distribution."""

from __future__ import annotations

import msgspec


class Alternative(msgspec.Struct, frozen=True, array_like=True):
    """One of the likeliest tokens of a place."""

    raw: bytes
    """What the token adds to a text, perhaps not whole characters; the name of a token that adds none."""
    logprob: float
    is_text: bool = True
    """False for a control token: ``raw`` is then its name."""


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """A token of an answer or of an echoed prompt."""

    raw: bytes
    logprob: float | None
    """None for the first token of a prompt: nothing stands before it that could tell."""
    offset: int
    """Characters of the choice's text, an echoed prompt included, that stand before the token."""
    top: tuple[Alternative, ...] = ()
    """The likeliest first."""
    is_text: bool = True
