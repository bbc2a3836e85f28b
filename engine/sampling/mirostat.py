"""Mirostat: keep the surprise of the text at a target, by cutting off more or fewer of the unlikely tokens.

Formulas: arXiv 2007.14966, in the form of llama.cpp (src/llama-sampler.cpp). One object holds the state of one
sequence. Owned by the worker's engine thread.
"""

from __future__ import annotations

import math

import numpy as np

from engine.native.vocabulary_scan import reaching
from engine.sampling import filters
from engine.sampling.candidates import Candidates, largest

_ESTIMATED_FROM = 100
"""Likeliest tokens that version 1 estimates the exponent of Zipf's law from."""


class Mirostat:
    """Draws tokens in place of the filters and learns from each: ``limit`` is the most surprise, in bits."""

    def __init__(self, version: int, target: float, rate: float, vocabulary_size: int) -> None:
        self._version = version
        self._target = target
        self._rate = rate
        self._vocabulary_size = vocabulary_size
        self.limit = 2.0 * target

    def draw(self, candidates: Candidates, fraction: float) -> int:
        """The token at ``fraction`` of what is within the limit; the limit then moves towards the target."""
        if self._version == 1:
            filters.top_k(candidates, self._count(candidates))
        else:
            self._cut(candidates)
        index = candidates.draw(fraction)
        surprise = math.log2(candidates.total) - math.log2(float(candidates.weights[index]))
        self.limit -= self._rate * (surprise - self._target)
        return candidates.token(index)

    def _cut(self, candidates: Candidates) -> None:
        """Version 2: keep what surprises no more than the limit, the likeliest in any case."""
        bound = candidates.total * 2.0 ** -max(0.0, min(self.limit, 1000.0))
        weights = candidates.weights
        candidates.keep(reaching(weights, min(max(bound, 1e-45), float(weights.max()))))

    def _count(self, candidates: Candidates) -> int:
        """Version 1: how many of the likeliest tokens have, on the whole, the surprise of the limit."""
        head = np.sort(candidates.logits[largest(candidates.logits, _ESTIMATED_FROM)])[::-1].astype(
            np.float64
        )
        if head.size < 2:
            return 1
        ranks = np.arange(1, head.size)
        steps = np.log((ranks + 1) / ranks)
        zipf = float((steps * (head[:-1] - head[1:])).sum() / (steps * steps).sum())
        excess = zipf - 1.0
        # excess * 2^limit / (1 - size^-excess), whose middle part has a limit where the excess is none.
        per_log = excess * math.log(self._vocabulary_size)
        shape = per_log / -math.expm1(-per_log) if abs(per_log) > 1e-9 else 1.0
        exponent = math.log(shape / math.log(self._vocabulary_size)) + self.limit * math.log(2.0)
        # The zipf-th root of a number that may not fit a float; more than there are is all.
        most = math.log(self._vocabulary_size)
        if exponent >= most * zipf:
            return self._vocabulary_size
        return max(1, int(math.exp(exponent / zipf))) if zipf > 0.0 else 1
