"""The filters against their definitions, computed slowly with a full sort in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, example, given, settings

from engine.sampling import filters
from engine.sampling.candidates import Candidates
from engine.sampling.scratch import Scratch

Logits = npt.NDArray[np.float32]

# Quarters, so that ties are common and sums in float32 are exact where they matter.
_finite = st.integers(-60, 60).map(lambda quarter: quarter / 4)
_small = (
    st.lists(st.one_of(_finite, _finite, _finite, st.just(-math.inf)), min_size=1, max_size=400)
    .filter(lambda values: max(values) > -math.inf)
    .map(lambda values: np.array(values, dtype=np.float32))
)


@st.composite
def _large(draw: st.DrawFn) -> Logits:
    """Past the sizes up to which the filters just sort: even, peaked, tied, mostly banned."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = random.normal(0, draw(st.sampled_from([0.0, 0.1, 3.0])), draw(st.integers(1025, 20_000)))
    if draw(st.booleans()):
        logits = np.round(logits)
    peaks = draw(st.integers(0, 5))
    logits[random.integers(0, logits.size, peaks)] += 12.0
    if draw(st.booleans()):
        logits[random.random(logits.size) < draw(st.sampled_from([0.1, 0.9, 0.999]))] = -np.inf
    logits[draw(st.integers(0, 1000))] = 0.0
    return logits.astype(np.float32)


_logits = st.one_of(_small, _large())


_EQUAL_BELOW_A_PEAK = np.full(3000, np.log(0.040973525), dtype=np.float32)
"""But for the peak, all weigh the same, and the mean of so many is rounded to less than each of them."""
_EQUAL_BELOW_A_PEAK[0] = 0.0


def _kept(logits: Logits, narrow: Callable[[Candidates], None]) -> list[int]:
    candidates = Candidates(logits.copy(), Scratch(logits.size))
    narrow(candidates)
    left = np.arange(logits.size) if candidates.ids is None else candidates.ids
    assert left.size
    assert len(set(left.tolist())) == left.size
    assert candidates.peak > -math.inf, "nothing is left"
    assert candidates.total == pytest.approx(float(np.exp(candidates.logits - candidates.peak).sum()), 1e-4)
    finite = candidates.logits > -np.inf
    assert (candidates.logits[finite] == logits[left[finite]]).all()
    return sorted(left[finite].tolist())


def _probabilities(logits: Logits) -> npt.NDArray[np.float64]:
    exact = np.exp(logits.astype(np.float64) - float(logits.max()))
    result: npt.NDArray[np.float64] = exact / exact.sum()
    return result


def _fewest(keys: npt.NDArray[np.float64], probabilities: npt.NDArray[np.float64], p: float) -> list[int]:
    order = np.argsort(-keys, kind="stable")
    reached = np.cumsum(probabilities[order])
    # At a border the sums of two precisions may fall on either side.
    assume(np.abs(reached - p).min() > 1e-5)
    return sorted(order[: int(np.searchsorted(reached, p)) + 1].tolist())


@settings(deadline=None, max_examples=120)
@given(logits=_logits, k=st.one_of(st.integers(1, 420), st.integers(1, 20_000)))
def test_top_k_keeps_the_k_likeliest(logits: Logits, k: int) -> None:
    kept = _kept(logits, lambda c: filters.top_k(c, k))
    assert len(kept) == min(k, int(np.isfinite(logits).sum()))
    expected = np.sort(logits)[::-1][: len(kept)]
    assert np.sort(logits[kept])[::-1].tolist() == expected.tolist()


def test_top_k_of_a_wide_spread() -> None:
    logits = np.array([0.0, -1e5, -1e6, -3e38, -math.inf], dtype=np.float32)
    assert _kept(logits, lambda c: filters.top_k(c, 3)) == [0, 1, 2]


@settings(deadline=None, max_examples=120)
@given(logits=_logits, p=st.floats(0.0, 0.9999))
@example(logits=np.zeros(400, dtype=np.float32), p=0.5)
@example(logits=np.zeros(4000, dtype=np.float32), p=0.50001)
@example(logits=np.zeros(4000, dtype=np.float32), p=0.0)
@example(logits=_EQUAL_BELOW_A_PEAK, p=0.9)
@example(logits=np.array([3.0], dtype=np.float32), p=0.0)
def test_top_p_keeps_the_fewest_that_reach_p(logits: Logits, p: float) -> None:
    kept = _kept(logits, lambda c: filters.top_p(c, p, 0))
    exact = _probabilities(logits)
    if p == 0.0:
        assert kept == [int(logits.argmax())]
    else:
        assert kept == _fewest(exact, exact, p)


def _peaked(seed: int, lift: float, size: int = 30_000) -> Logits:
    """As models of large vocabularies give them: a broad heap, and some hundred tokens far above it."""
    random = np.random.default_rng(seed)
    logits = random.normal(0.0, 3.0, size).astype(np.float32)
    logits[random.integers(0, size, 300)] += np.float32(lift) * random.random(300, dtype=np.float32)
    return logits


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), lift=st.floats(0.0, 40.0), p=st.floats(0.05, 0.9999))
def test_the_nucleus_of_a_large_vocabulary_with_a_few_peaks(seed: int, lift: float, p: float) -> None:
    logits = _peaked(seed, lift)
    kept = _kept(logits, lambda c: filters.top_p(c, p, 0))
    exact = _probabilities(logits)
    expected = _fewest(exact, exact, p)
    # Weights are of 32 bits, and may end the sum one of some thousand tokens earlier or later.
    assert set(kept) == set(expected) or (
        len(expected) > 100 and abs(float(exact[kept].sum()) - float(exact[expected].sum())) < 1e-5
    )


@settings(deadline=None, max_examples=120)
@given(logits=_logits, p=st.floats(0.001, 0.9999))
@example(logits=np.zeros(4000, dtype=np.float32), p=0.50001)
def test_typical_p_keeps_the_fewest_of_usual_surprise(logits: Logits, p: float) -> None:
    kept = _kept(logits, lambda c: filters.typical_p(c, p, 0))
    exact = _probabilities(logits)
    with np.errstate(divide="ignore"):
        surprise = -np.log(exact)
    entropy = float((exact[exact > 0] * surprise[exact > 0]).sum())
    strangeness = np.abs(surprise - entropy)
    # Rounded, so that what is equally strange counts as equal; and no two that are not may be as near as that.
    strangeness = np.round(strangeness, 4).astype(np.float64)
    expected = _fewest(-strangeness, exact, p)
    boundary = strangeness[expected].max()
    clear = np.flatnonzero(strangeness < boundary - 1e-3)
    assert set(clear.tolist()) <= set(kept)
    assert strangeness[kept].max() <= boundary + 1e-3
    assert exact[kept].sum() == pytest.approx(
        exact[expected].sum(), abs=2 * exact[strangeness >= boundary - 2e-3].max()
    )


@settings(deadline=None, max_examples=120)
@given(logits=_logits, share=st.floats(0.001, 1.0))
@example(logits=np.array([1.5, 1.5, -2.0], dtype=np.float32), share=1.0)
def test_min_p_keeps_those_at_least_a_share_as_likely(logits: Logits, share: float) -> None:
    ratios = np.exp(logits.astype(np.float64) - float(logits.max()))
    assume(np.abs(ratios - share)[ratios < 1.0].min(initial=1.0) > 1e-5)
    assert _kept(logits, lambda c: filters.min_p(c, share, 0)) == np.flatnonzero(ratios >= share).tolist()


@settings(deadline=None, max_examples=120)
@given(logits=_logits, sigmas=st.floats(0.01, 5.0))
def test_top_n_sigma_keeps_what_is_near_the_largest(logits: Logits, sigmas: float) -> None:
    exact = logits.astype(np.float64)
    bound = float(exact.max() - sigmas * exact[np.isfinite(exact)].std())
    assume(np.abs(exact - bound).min() > 1e-3 or bound == exact.max())
    expected = np.flatnonzero(exact >= bound).tolist()
    assert _kept(logits, lambda c: filters.top_n_sigma(c, sigmas)) == expected


@settings(deadline=None, max_examples=120)
@given(logits=_logits, threshold=st.floats(0.0, 0.5))
def test_xtc_takes_out_all_but_the_least_of_the_likely(logits: Logits, threshold: float) -> None:
    exact = _probabilities(logits)
    assume(np.abs(exact - threshold).min() > 1e-6)
    above = np.flatnonzero((exact >= threshold) & (exact > 1e-37))
    kept = _kept(logits, lambda c: filters.xtc(c, threshold, 0))
    gone = set(np.flatnonzero(np.isfinite(logits)).tolist()) - set(kept)
    assert gone <= set(above.tolist())
    assert len(gone) == max(0, above.size - 1)
    if above.size:
        (survivor,) = set(above.tolist()) - gone
        assert logits[survivor] == logits[above].min()


@settings(deadline=None, max_examples=100)
@given(logits=_logits, share=st.floats(0.001, 1.0), p=st.floats(0.0, 0.999), min_keep=st.integers(0, 2000))
def test_as_many_are_left_as_must_be(logits: Logits, share: float, p: float, min_keep: int) -> None:
    possible = int(np.isfinite(logits).sum())
    least = min(min_keep, possible)
    for narrow in (
        lambda c: filters.top_p(c, p, min_keep),
        lambda c: filters.min_p(c, share, min_keep),
        lambda c: filters.typical_p(c, p, min_keep),
        lambda c: filters.xtc(c, share / 2, min_keep),
    ):
        assert len(_kept(logits, narrow)) >= least


@settings(deadline=None)
@given(logits=_logits, k=st.integers(1, 50), p=st.floats(0.0, 0.999), share=st.floats(0.001, 1.0))
def test_these_filters_never_lose_the_likeliest(logits: Logits, k: int, p: float, share: float) -> None:
    best = set(np.flatnonzero(logits == logits.max()).tolist())
    assert best & set(_kept(logits, lambda c: filters.top_k(c, k)))
    assert best & set(_kept(logits, lambda c: filters.top_p(c, p, 0)))
    assert best <= set(_kept(logits, lambda c: filters.min_p(c, share, 0)))
    assert best <= set(_kept(logits, lambda c: filters.top_n_sigma(c, share)))


@settings(deadline=None)
@given(logits=_logits, middle=st.floats(0.1, 2.0), spread=st.floats(0.01, 2.0), exponent=st.floats(0.1, 5.0))
def test_the_dynamic_temperature(logits: Logits, middle: float, spread: float, exponent: float) -> None:
    candidates = Candidates(logits.copy(), Scratch(logits.size))
    temperature = filters.dynamic_temperature(candidates, middle, spread, exponent)
    exact = _probabilities(logits)
    exact = exact[exact > 0]
    possible = int(np.isfinite(logits).sum())
    if possible == 1:
        assert temperature == middle
        return
    evenness = min(1.0, max(0.0, float(-(exact * np.log(exact)).sum()) / math.log(possible)))
    low = max(0.0, middle - spread)
    assert temperature == pytest.approx(low + (middle + spread - low) * evenness**exponent, abs=2e-2)
