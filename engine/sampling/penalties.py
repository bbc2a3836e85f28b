"""Penalties on tokens that were seen before, applied to a few logits and never to the whole vocabulary."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from engine.sampling.params import SamplingParams
from engine.sampling.token_counts import TokenCounts


class Penalties:
    """Counts of one sequence's tokens, and the change to logits that follows from them.

    OpenAI's formula for frequency and presence (generated tokens only), llama.cpp's for repetition (the last
    ``repeat_last_n`` tokens, prompt included).
    """

    def __init__(self, params: SamplingParams, prompt: npt.NDArray[np.int32]) -> None:
        self._params = params
        self._generated = TokenCounts()
        self._recent = TokenCounts()
        self._window: deque[int] = deque()
        self._window_size = 0
        if params.repeat_penalty != 1.0:
            self._window_size = params.repeat_last_n if params.repeat_last_n >= 0 else 2**62
            for token in prompt[-self._window_size :].tolist() if self._window_size else ():
                self._see(token)

    @staticmethod
    def are_needed(params: SamplingParams) -> bool:
        return bool(params.frequency_penalty or params.presence_penalty or params.repeat_penalty != 1.0)

    def accept(self, token: int) -> None:
        """Count a token that was generated."""
        if self._params.frequency_penalty or self._params.presence_penalty:
            self._generated.add(token)
        if self._window_size:
            self._see(token)

    def _see(self, token: int) -> None:
        self._recent.add(token)
        self._window.append(token)
        if len(self._window) > self._window_size:
            self._recent.remove(self._window.popleft())

    def apply(self, logits: npt.NDArray[np.float32]) -> None:
        """Change ``logits``, shape (v,), in place."""
        params = self._params
        if len(self._recent):
            ids = self._recent.ids
            seen = logits[ids]
            factor = np.float32(params.repeat_penalty)
            logits[ids] = np.where(seen > 0, seen / factor, seen * factor)
        if len(self._generated):
            ids, counts = self._generated.ids, self._generated.counts
            logits[ids] -= counts * np.float32(params.frequency_penalty) + np.float32(params.presence_penalty)
