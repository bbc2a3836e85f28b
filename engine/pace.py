"""How fast one engine works, learnt from what its worker tells, so that whoever is refused hears when to come again."""

from __future__ import annotations

import math

from engine.config import EngineStats

_MEMORY_S = 30.0
"""Seconds of computing after which what was seen counts a third as much as what is new."""
_FIRST_ANSWER_TOKENS = 256.0
"""What an answer without a limit is taken to have, before any has ended."""
_SMOOTHING = 0.05
"""Weight of the newest answer in their mean length."""


class Pace:
    """Tokens a second while computing, and tokens of an answer. Owned by the event loop."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0
        self._told_tokens = 0
        self._told_seconds = 0.0
        self.answer_tokens = _FIRST_ANSWER_TOKENS

    @property
    def tokens_per_s(self) -> float | None:
        """Of prompts and answers together, those not counted that the cache spared; None before anything is known."""
        return self._tokens / self._seconds if self._seconds > 0 and self._tokens > 0 else None

    def seconds_for(self, tokens: float) -> float | None:
        """How long ``tokens`` will take."""
        rate = self.tokens_per_s
        return None if rate is None else tokens / rate

    def restart(self) -> None:
        """Take in that a new worker counts from 0."""
        self._told_tokens, self._told_seconds = 0, 0.0

    def learn(self, stats: EngineStats) -> None:
        """Take in the newest totals of the worker."""
        tokens = stats.prompt_tokens_total - stats.cached_prompt_tokens_total + stats.generation_tokens_total
        seconds = stats.step_seconds_total.total
        passed = seconds - self._told_seconds
        fading = math.exp(-max(0.0, passed) / _MEMORY_S)
        self._tokens = self._tokens * fading + (tokens - self._told_tokens)
        self._seconds = self._seconds * fading + passed
        self._told_tokens, self._told_seconds = tokens, seconds

    def learn_answer(self, tokens: int) -> None:
        """Take in the length of an answer that came to its end."""
        self.answer_tokens += _SMOOTHING * (tokens - self.answer_tokens)
