"""How the next token is chosen: the parameters of one request, with the bounds that hold for them."""

from __future__ import annotations

import msgspec

COLDEST = 1e-5
"""Temperatures under this differ from greedy by less than float32 tells apart, and dividing by them overflows."""


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sampling parameters of one request. The defaults are OpenAI's; ``0``, ``1`` or empty turn a filter off.

    Names, meanings and the order in which they act are llama.cpp's; ``logit_bias`` is OpenAI's, ``bad_words`` and
    ``allowed_token_ids`` are vLLM's. The routes check every bound before one of these is made, since a NaN or a
    bad id further down would pick a token silently.
    """

    temperature: float = 1.0
    """0 is greedy."""
    dynatemp_range: float = 0.0
    """The temperature varies by this much to both sides: low where the model is sure, high where it is not."""
    dynatemp_exponent: float = 1.0
    """How the entropy, as a share of the most it could be, maps to that range."""
    top_k: int = 0
    """Keep the k likeliest tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the fewest tokens whose probabilities add up to this."""
    min_p: float = 0.0
    """Keep the tokens at least this share as likely as the likeliest."""
    typical_p: float = 1.0
    """Keep the tokens whose surprise is nearest to the entropy, until their probabilities add up to more than this."""
    top_n_sigma: float = 0.0
    """Keep the tokens whose logits are at most this many standard deviations under the largest."""
    xtc_probability: float = 0.0
    """How often all but the least likely of the tokens above ``xtc_threshold`` are taken out."""
    xtc_threshold: float = 0.1
    """A probability; above 0.5 no two tokens can reach it, so nothing is ever taken out."""
    min_keep: int = 0
    """``top_p``, ``min_p``, ``typical_p`` and XTC leave at least this many tokens."""
    mirostat: int = 0
    """1 or 2: that version of mirostat stands in for all filters and steers the surprise of the text."""
    mirostat_tau: float = 5.0
    """The surprise that mirostat steers to, in bits a token."""
    mirostat_eta: float = 0.1
    """How fast it does."""
    seed: int | None = None
    """Two requests with one seed draw the same numbers; None draws fresh ones."""
    frequency_penalty: float = 0.0
    """Taken from a logit for each time its token was generated (OpenAI's formula)."""
    presence_penalty: float = 0.0
    """Taken from a logit once if its token was generated."""
    repeat_penalty: float = 1.0
    """llama.cpp's: positive logits of tokens seen lately are divided by it, negative ones multiplied."""
    repeat_last_n: int = 64
    """How many of the last tokens, prompt included, ``repeat_penalty`` looks at; -1 is all."""
    dry_multiplier: float = 0.0
    """Don't Repeat Yourself: what a token costs that would make a repeat of ``dry_allowed_length`` tokens longer."""
    dry_base: float = 1.75
    """The cost is multiplied by this for each token that the repeat is longer than allowed."""
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    """How many of the last tokens, prompt included, are searched for repeats; -1 is all."""
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    """Texts that no repeat goes across."""
    logit_bias: dict[int, float] = {}
    """Added to the logits of these token ids; -100 bans."""
    bad_words: tuple[str | tuple[int, ...], ...] = ()
    """Texts or token sequences that are never generated: the last token is banned when those before it were."""
    allowed_token_ids: tuple[int, ...] = ()
    """Nothing but these, an end of the text only if it is among them; empty allows all."""

    @property
    def is_greedy(self) -> bool:
        """Whether the token is the likeliest one whatever the random numbers are, and no filter can matter."""
        if self.mirostat:
            return False
        if self.top_k == 1:
            return True
        # Typical sampling and XTC may take the likeliest token out; the others never do.
        return self.is_cold and not self.dynatemp_range and not self.xtc_probability and self.typical_p >= 1.0

    @property
    def is_cold(self) -> bool:
        """Whether the temperature is that of greedy sampling."""
        return self.temperature < COLDEST
