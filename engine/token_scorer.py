"""Logits to log-probabilities with names: for one token of a place, and for the likeliest ones there."""

from __future__ import annotations

from engine.backend import Logits
from engine.prompt_reader import Vocabulary
from engine.sampling.logprobs import top_logprobs
from engine.sampling.scratch import Scratch
from engine.token_logprob import Alternative, TokenLogprob

LEAST_LOGPROB = -9999.0
"""What OpenAI writes for a token without any chance; minus infinity is no number in JSON."""


class TokenScorer:
    """Scores the tokens of one request. Owned by the worker's engine thread; ``scratch`` is overwritten."""

    __slots__ = ("_top", "_vocabulary", "scratch")

    def __init__(self, vocabulary: Vocabulary, scratch: Scratch, *, top: int) -> None:
        """``top`` is how many of the likeliest tokens are named beside each."""
        self._vocabulary = vocabulary
        self._top = top
        self.scratch = scratch

    def score(self, logits: Logits, token: int, offset: int) -> TokenLogprob:
        """``token`` at a place whose ``logits``, shape (v,), are as the model gave them. They are only read."""
        logprob, ids, logprobs = top_logprobs(logits, token, self._top, self.scratch)
        top = tuple(
            self._alternative(other, value)
            for other, value in zip(ids.tolist(), logprobs.tolist(), strict=True)
        )
        raw, is_text = self._name(token)
        return TokenLogprob(raw, max(logprob, LEAST_LOGPROB), offset, top, is_text)

    def unscored(self, token: int, offset: int) -> TokenLogprob:
        """``token`` at a place that has no logits."""
        raw, is_text = self._name(token)
        return TokenLogprob(raw, None, offset, (), is_text)

    def _alternative(self, token: int, logprob: float) -> Alternative:
        raw, is_text = self._name(token)
        return Alternative(raw, max(logprob, LEAST_LOGPROB), is_text)

    def _name(self, token: int) -> tuple[bytes, bool]:
        if raw := self._vocabulary.piece(token):
            return raw, True
        return self._vocabulary.special_text(token).encode(), False
