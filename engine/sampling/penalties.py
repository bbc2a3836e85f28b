"""Penalties on tokens that were seen before, applied to a few logits and never to the whole vocabulary."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.sampling.params import SamplingParams


class Penalties:
    """Counts of one sequence's tokens, and the change to logits that follows from them.

    OpenAI's formula for frequency and presence (generated tokens only), llama.cpp's for repetition (the last
    ``repeat_last_n`` tokens, prompt included).
    """

    def __init__(self, params: SamplingParams, prompt: npt.NDArray[np.int32]) -> None:
        self._params = params
        self._counts: dict[int, int] = {}
        self._recent: list[int] = prompt[-params.repeat_last_n :].tolist() if params.repeat_last_n else []

    @staticmethod
    def are_needed(params: SamplingParams) -> bool:
        return bool(params.frequency_penalty or params.presence_penalty or params.repeat_penalty != 1.0)

    def accept(self, token: int) -> None:
        """Count a token that was generated."""
        self._counts[token] = self._counts.get(token, 0) + 1
        if self._params.repeat_last_n:
            self._recent.append(token)
            del self._recent[: -self._params.repeat_last_n]

    def apply(self, logits: npt.NDArray[np.float32]) -> None:
        """Change ``logits``, shape (v,), in place."""
        params = self._params
        if params.repeat_penalty != 1.0 and self._recent:
            ids = np.unique(np.array(self._recent, dtype=np.intp))
            seen = logits[ids]
            logits[ids] = np.where(seen > 0, seen / params.repeat_penalty, seen * params.repeat_penalty)
        if self._counts and (params.frequency_penalty or params.presence_penalty):
            ids = np.fromiter(self._counts.keys(), dtype=np.intp, count=len(self._counts))
            counts = np.fromiter(self._counts.values(), dtype=np.float32, count=len(self._counts))
            logits[ids] -= counts * np.float32(params.frequency_penalty) + np.float32(params.presence_penalty)
