"""Passes over a whole vocabulary, those of our build of llama.cpp and numpy's, against double precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.native import library
from engine.native.vocabulary_scan import (
    Floats,
    exponentials,
    numpy_exponentials,
    numpy_reaching,
    reaching,
    scan_kernels,
)

pytestmark = pytest.mark.model


def test_our_own_build_has_them() -> None:
    library.initialise()
    if not library.set_patience(20):
        pytest.skip("this build of llama.cpp is not known to be ours")
    assert scan_kernels() is not None


def _row(size: int, spread: float, center: float, banned: float, seed: int) -> Floats:
    random = np.random.default_rng(seed)
    values = np.clip(random.normal(center, spread, size), -3e38, 3e38).astype(np.float32)
    values[random.random(size) < banned] = -np.inf
    values[random.integers(size)] = np.float32(center)
    return values


ROWS = st.builds(
    _row,
    size=st.integers(1, 3000),
    spread=st.sampled_from([0.0, 0.5, 3.0, 30.0, 1e4, 1e38]),
    center=st.sampled_from([0.0, -1e4, 1e4, 1e30]),
    banned=st.sampled_from([0.0, 0.1, 0.99]),
    seed=st.integers(0, 9),
)


@given(ROWS)
def test_weights_and_their_sum(values: Floats) -> None:
    peak = float(values.max())
    # What float32 makes of a depth is the same for all, and not in question here.
    with np.errstate(over="ignore"):
        depth = (values - np.float32(peak)).astype(np.float64)
    expected = np.exp(depth)
    for compute in (exponentials, numpy_exponentials):
        out: Floats = np.full(values.size, np.nan, dtype=np.float32)
        with np.errstate(over="ignore"):
            total = compute(values, peak, out)
        # Beneath e^-87, which is 1.6e-38, numbers soon lose their last bits one by one, and ours are 0.
        np.testing.assert_allclose(out, expected, rtol=5e-7, atol=2e-38)
        assert total == pytest.approx(float(expected.sum()), rel=1e-6)
        assert (out[values == -np.inf] == 0.0).all()


@given(ROWS, st.data())
def test_those_that_reach_a_bound(values: Floats, data: st.DataObject) -> None:
    some = data.draw(st.sampled_from(values.tolist()), "one of the values")
    for bound in (some, float(np.nextafter(np.float32(some), np.float32(np.inf))), -np.inf, np.inf):
        expected = [index for index, value in enumerate(values.tolist()) if value >= bound]
        for find in (reaching, numpy_reaching):
            found = find(values, bound)
            assert found.dtype == np.intp
            assert found.tolist() == expected


def test_many_small_weights_are_not_lost_in_the_sum() -> None:
    values = np.full(2**20, -12.0, dtype=np.float32)
    values[0] = 0.0
    total = exponentials(values, 0.0, np.empty_like(values))
    # Equal numbers are rounded to the same side, here some hundred times before they meet a double.
    assert total == pytest.approx(1.0 + (2**20 - 1) * float(np.exp(-12.0)), rel=1e-5)
