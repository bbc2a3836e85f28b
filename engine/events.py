"""What the engine tells of a running request: it was accepted, text came, a choice ended.

A stream of events for one request is: one ``Accepted``; then any number of ``Piece``; of which exactly
one per choice carries a ``finish``. A failure is an exception of the error tree instead, and ends the stream.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.token_logprob import TokenLogprob

FinishReason = Literal["stop", "length"]


class Finish(msgspec.Struct, frozen=True, array_like=True):
    """The end of one choice, with its true figures."""

    reason: FinishReason
    prompt_tokens: int
    """Tokens of the prompt; 0 for every choice of a prompt but the first, so that choices add up."""
    cached_tokens: int
    """How many of ``prompt_tokens`` were not computed, because the cache held them."""
    completion_tokens: int
    """Tokens generated, the end-of-generation token included."""
    queue_s: float
    prefill_s: float
    decode_s: float
    drafted_tokens: int = 0
    """Tokens that were guessed ahead and checked."""
    accepted_tokens: int = 0
    """How many of those came true."""
    forced_tokens: int = 0
    """Tokens that a constraint left no choice about, appended without sampling."""
    mean_logprob: float | None = None
    """Mean log-probability of the generated tokens, where the request asked to score them."""


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag="accepted"):
    """The prompts were tokenised, they fit, and the request is in the queue."""

    request: int
    prompt_tokens: int
    opening: str = ""
    """The last characters of a rendered chat: the answer goes on from them, in the middle of a thought, say."""


class Echoed(msgspec.Struct, frozen=True, array_like=True):
    """The prompt that an answer begins with."""

    text: str
    logprobs: tuple[TokenLogprob, ...] | None = None
    """Its tokens, of which the first has no log-probability; None where the request asked for none."""


class Piece(msgspec.Struct, frozen=True, array_like=True, tag="piece"):
    """What one engine step brought for one choice. ``text`` is whole UTF-8 and holds no stop string."""

    request: int
    choice: int
    text: str
    tokens: int
    """How many tokens were generated since the last piece, whether or not they made text."""
    finish: Finish | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    """The tokens that ``text`` is made of; None where the request asked for no log-probabilities."""
    lengths: tuple[int, ...] = ()
    """Where there are several tokens, how many characters of ``text`` came with each of them; they add up."""
    echo: Echoed | None = None
    """What comes before ``text``: in the first piece of a choice, where the request asked for it."""


Event = Accepted | Piece
