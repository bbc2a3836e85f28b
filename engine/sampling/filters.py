"""The filters that narrow a distribution: which tokens may be drawn at all.

Each takes logits of shape (v,) and returns the kept ids, shape (k,), k >= 1. None sorts the whole vocabulary:
a cheap threshold first leaves some hundred candidates, and it is chosen so that the result is exact.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]


def top_k(logits: Logits, peak: float, k: int) -> Ids:
    """The ``k`` likeliest tokens (all of them if there are fewer), in no order. ``peak`` is the largest logit."""
    if k >= logits.size:
        return np.arange(logits.size)
    depth = 8.0
    while True:
        candidates = np.flatnonzero(logits >= peak - depth)
        if candidates.size >= k:
            break
        if depth > 1e6:  # the rest is -inf: banned tokens
            return candidates
        depth *= 2.0
    if candidates.size == k:
        return candidates
    keep = np.argpartition(logits[candidates], candidates.size - k)[-k:]
    return candidates[keep]


def top_p(logits: Logits, peak: float, p: float, scratch: Logits) -> Ids:
    """The fewest tokens whose probabilities add up to at least ``p``, likeliest first (nucleus sampling).

    ``scratch`` is overwritten; its shape is that of ``logits``.
    """
    weights = np.subtract(logits, np.float32(peak), out=scratch)
    np.exp(weights, out=weights)
    total = float(weights.sum(dtype=np.float64))
    # Tokens below this weight together hold less than 1 - p, so the nucleus lies within the others.
    floor = (1.0 - p) * total / weights.size
    candidates = np.flatnonzero(weights >= min(floor, 1.0))
    kept = weights[candidates]
    order = np.argsort(-kept, kind="stable")
    reached = np.cumsum(kept[order], dtype=np.float64)
    count = int(np.searchsorted(reached, p * total)) + 1
    return candidates[order[:count]]


def min_p(logits: Logits, peak: float, share: float) -> npt.NDArray[np.bool_]:
    """A mask of the tokens at least ``share`` times as likely as the likeliest."""
    return logits >= np.float32(peak + math.log(share))
