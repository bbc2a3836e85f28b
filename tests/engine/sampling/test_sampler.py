"""The sampler: true frequencies, bans that hold, seeds that reproduce, and no NaN from any legal parameter."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from engine.sampling.params import SamplingParams
from engine.sampling.sampler import Sampler, Scratch

Logits = npt.NDArray[np.float32]
_NOTHING = np.empty(0, dtype=np.int32)


def _sampler(
    params: SamplingParams,
    size: int,
    *,
    choice: int = 0,
    prompt: tuple[int, ...] = (),
    end: tuple[int, ...] = (),
) -> Sampler:
    return Sampler(
        params,
        prompt=np.array(prompt, dtype=np.int32),
        choice=choice,
        end_tokens=np.array(end, dtype=np.int32),
        scratch=Scratch(size),
    )


def _draws(params: SamplingParams, logits: Logits, count: int) -> list[int]:
    sampler = _sampler(params, len(logits))
    return [sampler.sample(logits.copy(), may_end=True) for _ in range(count)]


def _allowed(logits: Logits, params: SamplingParams) -> npt.NDArray[np.float64]:
    """Probabilities by definition: top-k, then top-p and min-p of what is left, then temperature."""
    kept = np.flatnonzero(np.isfinite(logits))
    kept = kept[np.argsort(-logits[kept], kind="stable")]
    if params.top_k:
        kept = kept[: params.top_k]
    weights = np.exp(logits[kept].astype(np.float64) - float(logits.max()))
    if params.top_p < 1.0:
        reached = np.cumsum(weights / weights.sum())
        kept = kept[: int(np.searchsorted(reached, params.top_p)) + 1]
    if params.min_p:
        weights = np.exp(logits[kept].astype(np.float64) - float(logits.max()))
        kept = kept[weights >= params.min_p]
    probabilities = np.zeros(len(logits))
    scaled = (logits[kept].astype(np.float64) - float(logits.max())) / params.temperature
    probabilities[kept] = np.exp(scaled) / np.exp(scaled).sum()
    return probabilities


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(seed=1),
        SamplingParams(seed=2, temperature=0.5),
        SamplingParams(seed=3, temperature=2.0),
        SamplingParams(seed=4, top_k=5),
        SamplingParams(seed=5, top_p=0.8),
        SamplingParams(seed=6, min_p=0.1),
        SamplingParams(seed=7, temperature=1.5, top_k=40, top_p=0.9, min_p=0.05),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [30, 700])
def test_tokens_come_as_often_as_they_should(params: SamplingParams, size: int) -> None:
    """Pearson's chi-square with a fixed seed, so it passes always or never; the bound is some five deviations."""
    logits = np.random.default_rng(size).normal(0, 2, size).astype(np.float32)
    logits[::7] = -np.inf
    count = 20_000
    probabilities = _allowed(logits, params)
    drawn = np.bincount(_draws(params, logits, count), minlength=size)
    assert not drawn[probabilities == 0].any(), "a token that the filters exclude was drawn"
    common = probabilities * count >= 5
    expected = np.append(probabilities[common] * count, probabilities[~common].sum() * count)
    seen = np.append(drawn[common], drawn[~common].sum())
    expected, seen = expected[expected > 0], seen[expected > 0]
    freedom = max(len(expected) - 1, 1)
    chi_square = float(((seen - expected) ** 2 / expected).sum())
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom) + 5


@pytest.mark.parametrize("params", [SamplingParams(seed=11), SamplingParams(seed=11, top_p=0.95)], ids=str)
def test_a_seed_reproduces_and_choices_differ(params: SamplingParams) -> None:
    logits = np.zeros(1000, dtype=np.float32)
    runs = [[_draws(params, logits, 20)] for _ in range(2)]
    assert runs[0] == runs[1]
    other = _sampler(params, 1000, choice=1)
    assert [other.sample(logits.copy(), may_end=True) for _ in range(20)] != runs[0][0]


@pytest.mark.parametrize("seed", [0, -1, -(2**63), 2**63 - 1])
def test_every_seed_serves(seed: int) -> None:
    params = SamplingParams(seed=seed)
    assert _draws(params, np.zeros(50, dtype=np.float32), 5) == _draws(
        params, np.zeros(50, dtype=np.float32), 5
    )


def test_without_a_seed_runs_differ() -> None:
    logits = np.zeros(1000, dtype=np.float32)
    assert _draws(SamplingParams(), logits, 20) != _draws(SamplingParams(), logits, 20)


def test_greedy_takes_the_likeliest_and_of_ties_the_first() -> None:
    logits = np.array([1.0, 5.0, 5.0, -1.0], dtype=np.float32)
    assert set(_draws(SamplingParams(temperature=0.0), logits, 5)) == {1}
    assert set(_draws(SamplingParams(top_k=1), logits, 5)) == {1}


def test_equal_logits_are_all_drawn() -> None:
    for params in (
        SamplingParams(seed=1),
        SamplingParams(seed=1, top_p=0.999),
        SamplingParams(seed=1, min_p=1.0),
    ):
        assert set(_draws(params, np.full(5, 2.5, dtype=np.float32), 300)) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_bias_of_minus_100_bans_against_any_logit(temperature: float) -> None:
    logits = np.array([500.0, 0.0, 0.0], dtype=np.float32)
    params = SamplingParams(temperature=temperature, seed=3, logit_bias={0: -100.0})
    assert 0 not in _draws(params, logits, 200)


def test_a_bias_of_100_decides() -> None:
    logits = np.array([20.0, 0.0, 0.0], dtype=np.float32)
    assert set(_draws(SamplingParams(seed=3, logit_bias={2: 100.0}), logits, 50)) == {2}


@pytest.mark.parametrize("params", [SamplingParams(temperature=0.0), SamplingParams(seed=1)], ids=str)
def test_an_end_that_may_not_come_does_not_come(params: SamplingParams) -> None:
    sampler = _sampler(params, 4, end=(0, 3))
    logits = np.array([50.0, 1.0, 1.0, 60.0], dtype=np.float32)
    assert all(sampler.sample(logits.copy(), may_end=False) in (1, 2) for _ in range(50))
    assert sampler.sample(logits.copy(), may_end=True) == 3


def test_a_positive_bias_does_not_lift_the_ban_on_an_end() -> None:
    sampler = _sampler(SamplingParams(temperature=0.0, logit_bias={1: 100.0}), 2, end=(1,))
    assert sampler.sample(np.zeros(2, dtype=np.float32), may_end=False) == 0


def test_penalties_learn_from_what_was_drawn() -> None:
    sampler = _sampler(SamplingParams(temperature=0.0, presence_penalty=2.0), 3)
    logits = np.array([3.0, 2.0, 1.5], dtype=np.float32)
    assert [sampler.sample(logits.copy(), may_end=True) for _ in range(3)] == [0, 1, 2]


_temperatures = st.one_of(
    st.floats(0.0, 2.0), st.sampled_from([1e-300, 5e-324, 1e-50, 1e-39, 1e-30, 1e-8, 1e-5, 1e-3])
)


@settings(deadline=None, max_examples=500)
@given(
    temperature=_temperatures,
    top_k=st.integers(0, 20),
    top_p=st.one_of(st.just(1.0), st.floats(0.0, 1.0), st.just(5e-324)),
    min_p=st.one_of(st.just(0.0), st.floats(0.0, 1.0), st.just(5e-324)),
    logits=st.lists(st.one_of(st.floats(-1e4, 1e4, width=32), st.just(-math.inf)), min_size=2, max_size=300),
    survivor=st.integers(0, 10_000),
)
def test_every_legal_parameter_draws_a_token_that_can_be(
    temperature: float, top_k: int, top_p: float, min_p: float, logits: list[float], survivor: int
) -> None:
    """Warnings are errors here, so an overflow or a NaN on the way fails, too."""
    row = np.array(logits, dtype=np.float32)
    row[survivor % len(row)] = 1.0
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=5)
    for token in _draws(params, row, 3):
        assert np.isfinite(row[token])
    if 0.0 <= temperature < 1e-6:
        assert row[token] == row.max()


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0.0),
        SamplingParams(seed=1),
        SamplingParams(seed=1, top_k=3),
        SamplingParams(seed=1, top_p=0.5),
        SamplingParams(seed=1, min_p=0.5),
    ],
    ids=str,
)
@pytest.mark.parametrize("at", [0, 255, 256, 599])
def test_the_only_token_left_is_drawn(params: SamplingParams, at: int) -> None:
    logits = np.full(600, -np.inf, dtype=np.float32)
    logits[at] = -3.0
    assert set(_draws(params, logits, 20)) == {at}
