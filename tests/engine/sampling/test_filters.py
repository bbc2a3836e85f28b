"""The filters against their definitions, computed slowly with a full sort in double precision."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
from hypothesis import assume, example, given, settings

from engine.sampling import filters

Logits = npt.NDArray[np.float32]

# Quarters, so that ties are common and sums in float32 are exact where they matter.
_finite = st.integers(-60, 60).map(lambda quarter: quarter / 4)
_logits = (
    st.lists(st.one_of(_finite, _finite, _finite, st.just(-math.inf)), min_size=1, max_size=400)
    .filter(lambda values: max(values) > -math.inf)
    .map(lambda values: np.array(values, dtype=np.float32))
)


@settings(deadline=None, max_examples=300)
@given(logits=_logits, k=st.integers(1, 420))
def test_top_k_keeps_the_k_likeliest(logits: Logits, k: int) -> None:
    kept = filters.top_k(logits, float(logits.max()), k)
    assert len(set(kept.tolist())) == len(kept)
    possible = int(np.isfinite(logits).sum())
    assert min(k, possible) <= len(kept) <= max(k, 1)
    expected = np.sort(logits)[::-1][: len(kept)]
    assert np.sort(logits[kept])[::-1].tolist() == expected.tolist()


def test_top_k_of_a_wide_spread() -> None:
    logits = np.array([0.0, -1e5, -1e6, -3e38, -math.inf], dtype=np.float32)
    assert sorted(filters.top_k(logits, 0.0, 3).tolist()) == [0, 1, 2]


@settings(deadline=None, max_examples=300)
@given(logits=_logits, p=st.floats(0.0, 0.9999))
@example(logits=np.zeros(400, dtype=np.float32), p=0.5)
@example(logits=np.array([3.0], dtype=np.float32), p=0.0)
def test_top_p_keeps_the_fewest_that_reach_p(logits: Logits, p: float) -> None:
    scratch = np.empty_like(logits)
    kept = filters.top_p(logits, float(logits.max()), p, scratch)
    exact = np.exp(logits.astype(np.float64) - float(logits.max()))
    exact /= exact.sum()
    order = np.argsort(-exact, kind="stable")
    reached = np.cumsum(exact[order])
    # At a border the sums of two precisions may fall on either side.
    assume(np.abs(reached - p).min() > 1e-6)
    count = int(np.searchsorted(reached, p)) + 1
    assert kept.tolist() == order[:count].tolist()


@settings(deadline=None, max_examples=300)
@given(logits=_logits, share=st.floats(0.001, 1.0))
@example(logits=np.array([1.5, 1.5, -2.0], dtype=np.float32), share=1.0)
def test_min_p_keeps_those_at_least_a_share_as_likely(logits: Logits, share: float) -> None:
    peak = float(logits.max())
    ratios = np.exp(logits.astype(np.float64) - peak)
    assume(np.abs(ratios - share)[ratios < 1.0].min(initial=1.0) > 1e-5)
    assert filters.min_p(logits, peak, share).tolist() == (ratios >= share).tolist()


@settings(deadline=None)
@given(logits=_logits, k=st.integers(1, 50), p=st.floats(0.0, 0.999), share=st.floats(0.001, 1.0))
def test_no_filter_ever_loses_the_likeliest(logits: Logits, k: int, p: float, share: float) -> None:
    peak = float(logits.max())
    best = set(np.flatnonzero(logits == logits.max()).tolist())
    assert best & set(filters.top_k(logits, peak, k).tolist())
    assert best & set(filters.top_p(logits, peak, p, np.empty_like(logits)).tolist())
    assert best <= set(np.flatnonzero(filters.min_p(logits, peak, share)).tolist())
