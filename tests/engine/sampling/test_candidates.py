"""The quick selections by themselves, at the sizes where they no longer just sort."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType

import numpy as np
import pytest

from engine.sampling.candidates import fewest_reaching


@pytest.fixture
def _comes_to_an_end() -> Iterator[None]:
    """A selection that never ends fails here, and does not hang the run."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError("it goes on for ever")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("_comes_to_an_end")
@pytest.mark.parametrize("size", [1025, 1500, 3001, 20_000])
def test_equal_weights_whose_mean_is_rounded_to_either_side_of_them(size: int) -> None:
    """A mean in float32 can be less than each of the equal numbers it is the mean of."""
    for value in np.random.default_rng(1).random(60).astype(np.float32):
        weights = np.full(size, value, dtype=np.float32)
        kept = fewest_reaching(weights, weights, float(value) * (size // 2))
        assert kept.tolist() == list(range(size // 2))


@pytest.mark.usefixtures("_comes_to_an_end")
@pytest.mark.parametrize("ulps", [0, 1, 2])
def test_weights_that_differ_in_their_last_bits(ulps: int) -> None:
    random = np.random.default_rng(2)
    for value in random.random(60).astype(np.float32):
        steps = random.integers(0, ulps + 1, 2000).astype(np.int32)
        weights = (np.full(2000, value).view(np.int32) + steps).view(np.float32)
        kept = fewest_reaching(weights, weights, float(weights.sum(dtype=np.float64)) * 0.3)
        assert float(weights[kept].min()) >= float(np.delete(weights, kept).max())
        assert 595 <= len(kept) <= 605
