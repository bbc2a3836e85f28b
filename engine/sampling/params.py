"""How the next token is chosen: the parameters of one request, with the bounds that hold for them."""

from __future__ import annotations

import msgspec

COLDEST = 1e-5
"""Below this, the likeliest token always wins, and dividing float32 logits by it gives infinities and NaN."""


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sampling parameters of one request. The defaults are OpenAI's; ``0``, ``1`` or empty turn a filter off.

    The routes check every bound before one of these is made, since a NaN or a bad id further down
    would pick a token silently.
    """

    temperature: float = 1.0
    """0 is greedy, and so is what is too small to divide by."""
    top_k: int = 0
    """Keep the k likeliest tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the fewest tokens whose probabilities add up to this."""
    min_p: float = 0.0
    """Keep the tokens at least this share as likely as the likeliest."""
    seed: int | None = None
    """Two requests with one seed draw the same numbers; None draws fresh ones."""
    frequency_penalty: float = 0.0
    """Taken from a logit for each time its token was generated (OpenAI's formula)."""
    presence_penalty: float = 0.0
    """Taken from a logit once if its token was generated."""
    repeat_penalty: float = 1.0
    """llama.cpp's: positive logits of tokens seen lately are divided by it, negative ones multiplied."""
    repeat_last_n: int = 64
    """How many of the last tokens, prompt included, ``repeat_penalty`` looks at."""
    logit_bias: dict[int, float] = {}
    """Added to the logits of these token ids; -100 bans."""

    @property
    def is_greedy(self) -> bool:
        return self.temperature < COLDEST or self.top_k == 1
