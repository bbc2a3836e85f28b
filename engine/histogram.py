"""How often something took how much: counted where it happens, told with the other figures of an engine."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Final, Self

import msgspec

LATENCY_BOUNDS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    1.0,
    2.5,
    5.0,
)
"""Seconds."""
BATCH_BOUNDS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Sequences of one step."""


class Histogram(msgspec.Struct, array_like=True):
    """Counts of values by bucket. Whoever counts and whoever shows it agree on the bounds: they are not told."""

    counts: list[int]
    """Per bucket, not cumulative: values up to its bound and above the one before. The last has no bound."""
    total: float = 0.0
    """Sum of the values."""

    @classmethod
    def maker(cls, bounds: tuple[float, ...]) -> Callable[[], Self]:
        """What makes empty ones for ``bounds``."""
        return lambda: cls([0] * (len(bounds) + 1))

    def add(self, value: float, bounds: tuple[float, ...]) -> None:
        self.counts[bisect_left(bounds, value)] += 1
        self.total += value

    def __add__(self, other: Histogram) -> Histogram:
        """Of the values of both, which have the same bounds."""
        counts = [one + another for one, another in zip(self.counts, other.counts, strict=True)]
        return Histogram(counts, self.total + other.total)
