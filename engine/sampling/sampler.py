"""Choosing one sequence's next token. Owned by the worker's engine thread.

The order is llama.cpp's: bias and penalties, top-k, top-p, min-p, temperature, draw.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.sampling import filters
from engine.sampling.params import SamplingParams
from engine.sampling.penalties import Penalties

_BLOCK = 256
_SEED_BITS = 2**64


class Scratch:
    """Memory for a distribution over the whole vocabulary, shared by every sampler of an engine thread."""

    def __init__(self, vocabulary_size: int) -> None:
        padded = -(-vocabulary_size // _BLOCK) * _BLOCK
        self._padded = np.zeros(padded, dtype=np.float32)
        self.weights = self._padded[:vocabulary_size]
        """Shape (v,). What lies behind it, up to a whole block, stays zero."""
        self.blocks = self._padded.reshape(-1, _BLOCK)


class Sampler:
    """Draws the tokens of one sequence: the same seed, logits and history give the same tokens."""

    def __init__(
        self,
        params: SamplingParams,
        *,
        prompt: npt.NDArray[np.int32],
        choice: int,
        end_tokens: npt.NDArray[np.int32],
        scratch: Scratch,
    ) -> None:
        self._params = params
        self._scratch = scratch
        self._end_tokens = end_tokens
        self._penalties = Penalties(params, prompt) if Penalties.are_needed(params) else None
        self._bias_ids = np.fromiter(params.logit_bias.keys(), dtype=np.intp, count=len(params.logit_bias))
        self._bias = np.fromiter(params.logit_bias.values(), dtype=np.float32, count=len(params.logit_bias))
        # OpenAI documents -100 as a ban, and a ban must hold against any logit.
        self._bias[self._bias <= -100.0] = -np.inf
        self._random = None if params.is_greedy else np.random.default_rng(_seed_of(params.seed, choice))
        self._is_filtered = params.top_k > 0 or params.top_p < 1.0 or params.min_p > 0.0

    def sample(self, logits: npt.NDArray[np.float32], *, may_end: bool) -> int:
        """The next token from ``logits``, shape (v,), which are changed in place.

        ``may_end`` False bans every token that ends generation.
        """
        if self._bias_ids.size:
            logits[self._bias_ids] += self._bias
        if self._penalties:
            self._penalties.apply(logits)
        if not may_end:
            logits[self._end_tokens] = -np.inf
        if self._random is None:
            token = int(logits.argmax())
        elif self._is_filtered:
            token = self._draw_filtered(logits, self._random.random())
        else:
            token = self._draw_from_all(logits, self._random.random())
        if self._penalties:
            self._penalties.accept(token)
        return token

    def _draw_filtered(self, logits: npt.NDArray[np.float32], fraction: float) -> int:
        params = self._params
        peak = float(logits.max())
        ids: npt.NDArray[np.intp] | None = None
        if params.top_k > 0:
            ids = filters.top_k(logits, peak, params.top_k)
        if params.top_p < 1.0:
            narrowed = logits if ids is None else logits[ids]
            kept = filters.top_p(narrowed, peak, params.top_p, self._scratch.weights[: narrowed.size])
            ids = kept if ids is None else ids[kept]
        if params.min_p > 0.0:
            narrowed = logits if ids is None else logits[ids]
            mask = filters.min_p(narrowed, peak, params.min_p)
            ids = np.flatnonzero(mask) if ids is None else ids[mask]
        assert ids is not None, "a filtered draw has a filter"
        reached = np.exp((logits[ids] - peak) / params.temperature, dtype=np.float64).cumsum()
        return int(ids[_first_past(reached, fraction)])

    def _draw_from_all(self, logits: npt.NDArray[np.float32], fraction: float) -> int:
        """Inverse-transform sampling over the whole vocabulary: sums of blocks first, then within one block."""
        weights = np.subtract(logits, logits.max(), out=self._scratch.weights)
        if self._params.temperature != 1.0:
            weights *= np.float32(1.0 / self._params.temperature)
        np.exp(weights, out=weights)
        reached = self._scratch.blocks.sum(axis=1, dtype=np.float64).cumsum()
        block = _first_past(reached, fraction)
        left = fraction * reached[-1] - (reached[block - 1] if block else 0.0)
        within = self._scratch.blocks[block].cumsum(dtype=np.float64)
        token = block * _BLOCK + min(int(np.searchsorted(within, left, side="right")), _BLOCK - 1)
        # A rounding error at the block's end may point behind its last possible token: step back to one.
        while weights.size <= token or weights[token] == 0.0:
            token -= 1
        return token


def _first_past(reached: npt.NDArray[np.float64], fraction: float) -> int:
    """Index of the first cumulative weight past ``fraction`` of the total."""
    return min(int(np.searchsorted(reached, fraction * reached[-1], side="right")), reached.size - 1)


def _seed_of(seed: int | None, choice: int) -> list[int] | None:
    """Entropy for one choice: every choice of a seeded request draws its own, reproducible numbers."""
    return None if seed is None else [seed % _SEED_BITS, choice]
