"""Exp and its sum, from ggml where its library shows the function and else from numpy, against double precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.native import library
from engine.native.exponentials import Floats, exponentials, numpy_exponentials, softmax_kernel

pytestmark = pytest.mark.model


def test_our_own_build_shows_the_function_of_ggml() -> None:
    library.initialise()
    if not library.set_patience(20):
        pytest.skip("this build of llama.cpp is not known to be ours")
    assert softmax_kernel() is not None


@given(
    size=st.integers(1, 3000),
    spread=st.sampled_from([0.0, 0.5, 3.0, 30.0, 1e4, 1e38]),
    center=st.sampled_from([0.0, -1e4, 1e4, 1e30]),
    banned=st.sampled_from([0.0, 0.1, 0.99]),
    seed=st.integers(0, 9),
)
def test_weights_and_their_sum(size: int, spread: float, center: float, banned: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = np.clip(random.normal(center, spread, size), -3e38, 3e38).astype(np.float32)
    values[random.random(size) < banned] = -np.inf
    values[random.integers(size)] = np.float32(center)
    peak = float(values.max())
    # What float32 makes of a depth is the same for all, and not in question here.
    with np.errstate(over="ignore"):
        depth = (values - np.float32(peak)).astype(np.float64)
    expected = np.exp(depth)
    for compute in (exponentials, numpy_exponentials):
        out: Floats = np.full(size, np.nan, dtype=np.float32)
        with np.errstate(over="ignore"):
            total = compute(values, peak, out)
        # Beneath 1e-37, numbers lose their last bits one by one, and some kernels make them 0.
        np.testing.assert_allclose(out, expected, rtol=5e-7, atol=1e-37)
        assert total == pytest.approx(float(expected.sum()), rel=1e-6)
        assert (out[values == -np.inf] == 0.0).all()
