"""The tokens that may still be drawn, while filters narrow them down."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.native.vocabulary_scan import reaching
from engine.sampling.scratch import Scratch

Logits = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]

_SMALL = 1024
_FEW = 512
_HIGHEST_PEAK = 60.0
"""Logits up to here can be divided as they are: float32 keeps apart what lies beneath."""


class Candidates:
    """Token ids and their logits, in no order; at least one logit is finite. Lives for one draw.

    As long as nothing was taken out, ``ids`` is None and an index is an id: the logits are the model's own array,
    and weights are computed in the scratch memory. Whatever is computed once is kept for the next filter.
    """

    __slots__ = ("_peak", "_total", "_weights", "ids", "logits", "scratch")

    def __init__(self, logits: Logits, scratch: Scratch, ids: Ids | None = None) -> None:
        """``logits``, shape (n,), may be changed in place. ``ids``, shape (n,), are needed where n < v."""
        self.logits = logits
        self.ids = ids
        self.scratch = scratch
        self._peak: float | None = None
        self._weights: Logits | None = None
        self._total: float | None = None

    @property
    def size(self) -> int:
        return self.logits.size

    @property
    def possible(self) -> int:
        """How many of them are not banned."""
        return int(np.count_nonzero(self.logits > -np.inf))

    @property
    def peak(self) -> float:
        """The largest logit."""
        if self._peak is None:
            self._peak = float(self.logits.max())
        return self._peak

    @property
    def weights(self) -> Logits:
        """Probabilities times ``total``: exp of the logits less ``peak``, shape (n,). Read only."""
        if self._weights is None:
            if self.ids is None:
                self._weights = self.scratch.weights
                self._total = self.scratch.weigh(self.logits, self.peak)
            else:
                depth = self.logits - np.float32(self.peak)
                self._weights = np.exp(depth, out=depth)
        return self._weights

    @property
    def total(self) -> float:
        """The sum of ``weights``."""
        weights = self.weights
        if self._total is None:
            self._total = float(weights.sum(dtype=np.float64))
        return self._total

    @property
    def mean_depth(self) -> float:
        """The mean of logit less peak, by probability: log(total) less this is the entropy, in nats."""
        weights, total = self.weights, self.total
        out = self.scratch.other if self.ids is None else np.empty_like(self.logits)
        depth = np.subtract(self.logits, np.float32(self.peak), out=out)
        # 0 times -inf is no number; what is this deep weighs nothing.
        np.maximum(depth, np.float32(-100.0), out=depth)
        np.multiply(depth, weights, out=depth)
        return float(depth.sum()) / total

    @property
    def entropy(self) -> float:
        """In nats; never negative."""
        return max(0.0, float(np.log(self.total)) - self.mean_depth)

    def keep(self, indices: Ids, *, has_peak: bool = True) -> None:
        """Keep those at ``indices``, shape (k,), k >= 1. ``has_peak`` tells that the likeliest is among them."""
        self.ids = indices if self.ids is None else self.ids[indices]
        self.logits = self.logits[indices]
        self._weights = None if self._weights is None or not has_peak else self._weights[indices]
        self._peak = self._peak if has_peak else None
        self._total = None

    def strike(self, indices: Ids) -> None:
        """Take out those at ``indices``."""
        if self.ids is None:
            self.logits[indices] = -np.inf
            self._peak = self._weights = self._total = None
        else:
            self.keep(np.delete(np.arange(self.size), indices), has_peak=False)

    def heat(self, temperature: float) -> None:
        """Divide the logits by ``temperature``, which is no smaller than greedy's bound."""
        if temperature == 1.0:
            return
        out = self.scratch.other if self.ids is None else np.empty_like(self.logits)
        factor = np.float32(1.0 / temperature)
        if abs(self.peak) <= _HIGHEST_PEAK * min(1.0, temperature):
            logits, peak = self.logits, float(np.float32(self.peak) * factor)
        else:
            # The peak is taken off first: dividing large logits first would round away what sets them apart.
            logits, peak = np.subtract(self.logits, np.float32(self.peak), out=out), 0.0
        self.logits = np.multiply(logits, factor, out=out)
        self._peak = peak
        self._weights = self._total = None

    def best(self) -> int:
        """The likeliest token; of several, the first."""
        return self.token(int(self.logits.argmax()))

    def draw(self, fraction: float) -> int:
        """The index of the candidate at ``fraction``, 0 <= fraction < 1, of the total weight."""
        weights = self.weights
        if self.ids is not None:
            reached = weights.cumsum(dtype=np.float64)
            return _first_past(reached, fraction * float(reached[-1]))
        reached = self.scratch.column_sums().cumsum(dtype=np.float64)
        goal = fraction * float(reached[-1])
        column = _first_past(reached, goal)
        left = goal - (float(reached[column - 1]) if column else 0.0)
        matrix = self.scratch.matrix
        row = _first_past(matrix[:, column].cumsum(dtype=np.float64), left)
        return row * matrix.shape[1] + column

    def token(self, index: int) -> int:
        """The id of the candidate at ``index``."""
        return index if self.ids is None else int(self.ids[index])


def _first_past(reached: npt.NDArray[np.float64], goal: float) -> int:
    """Index of the first cumulative weight past ``goal``; where rounding leaves none, of the last with a weight."""
    index = int(np.searchsorted(reached, goal, side="right"))
    if index == reached.size:
        index = int(np.searchsorted(reached, reached[-1]))
    return index


def largest(values: Logits, count: int) -> Ids:
    """Indices of the ``count`` largest of ``values`` that are not -inf, or of all if there are fewer.

    In no order; of equal values the first are taken.
    """
    bound = _least_of_largest(values, count)
    held = reaching(values, bound) if bound > -np.inf else np.flatnonzero(values > -np.inf)
    if held.size <= count:
        return held
    near = values[held]
    cut = np.partition(near, near.size - count)[near.size - count]
    above = np.flatnonzero(near > cut)
    ties = np.flatnonzero(near == cut)[: count - above.size]
    kept: Ids = held[np.concatenate([above, ties])]
    return kept


def _least_of_largest(values: Logits, count: int) -> float:
    """A number that at least ``count`` of ``values`` reach, and few more: that many groups have a maximum as large."""
    groups = max(512, 8 * count)
    rows = values.size // groups
    if rows < 2:
        return -np.inf
    maxima = values[: rows * groups].reshape(rows, groups).max(axis=0)
    rest = values[rows * groups :]
    np.maximum(maxima[: rest.size], rest, out=maxima[: rest.size])
    return float(np.partition(maxima, groups - count)[groups - count])


def fewest_reaching(keys: Logits, weights: Logits, goal: float) -> Ids:
    """Indices of the fewest candidates, by falling ``keys``, whose ``weights`` add up to at least ``goal``.

    All where they never do. Both have shape (n,). Of equal keys the first come first. Nothing is sorted but the
    neighbourhood of the cut: like a quickselect, by weight instead of by number.
    """
    if keys.size <= _SMALL:
        order = np.argsort(-keys, kind="stable")
        reached = weights[order].cumsum(dtype=np.float64)
        return order[: int(np.searchsorted(reached, goal)) + 1]
    near_keys, near_weights, above = keys, weights, 0.0
    while near_keys.size > _FEW:
        is_upper = near_keys > near_keys.mean()
        # Indices, since numpy takes those five times as fast as it takes what a mask says.
        half = np.flatnonzero(is_upper)
        # Where all are equal, their mean may be rounded to either side of them.
        if half.size in (0, near_keys.size):
            break
        upper = near_weights[half]
        mass = float(upper.sum(dtype=np.float64))
        if above + mass < goal:
            above += mass
            half = np.flatnonzero(~is_upper)
            upper = near_weights[half]
        near_keys, near_weights = (upper if keys is weights else near_keys[half]), upper
    order = np.argsort(-near_keys, kind="stable")
    reached = near_weights[order].cumsum(dtype=np.float64) + above
    last = min(int(np.searchsorted(reached, goal)), order.size - 1)
    cut = near_keys[order[last]]
    ties = last + 1 - int(np.count_nonzero(near_keys > cut))
    return np.concatenate([np.flatnonzero(keys > cut), np.flatnonzero(keys == cut)[:ties]])
