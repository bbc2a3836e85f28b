"""The sampler: true frequencies, bans that hold, seeds that reproduce, and no NaN from any legal parameter."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from engine.sampling.params import SamplingParams
from engine.sampling.sampler import Sampler
from engine.sampling.scratch import Scratch

Logits = npt.NDArray[np.float32]
_NOTHING = np.empty(0, dtype=np.int32)


def _changed(params: SamplingParams) -> str:
    defaults = SamplingParams()
    named = {name: getattr(params, name) for name in params.__struct_fields__}
    return ",".join(f"{k}={v}" for k, v in named.items() if v != getattr(defaults, k))


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
    ids=_changed,
)
@pytest.mark.parametrize("size", [30, 700, 5000])
def test_tokens_come_as_often_as_they_should(params: SamplingParams, size: int) -> None:
    """Pearson's chi-square with a fixed seed, so it passes always or never; the bound is some five deviations."""
    logits = np.random.default_rng(size).normal(0, 2, size).astype(np.float32)
    logits[::7] = -np.inf
    count = 8000
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


@pytest.mark.parametrize(
    "params", [SamplingParams(seed=11), SamplingParams(seed=11, top_p=0.95)], ids=_changed
)
def test_a_seed_reproduces_and_choices_differ(params: SamplingParams) -> None:
    logits = np.zeros(1000, dtype=np.float32)
    runs = [[_draws(params, logits, 20)] for _ in range(2)]
    assert runs[0] == runs[1]
    other = _sampler(params, 1000, choice=1)
    assert [other.sample(logits.copy(), may_end=True) for _ in range(20)] != runs[0][0]


class _Limit:
    """Allows ``ids``, and remembers what it was asked."""

    def __init__(self, ids: set[int], *, can_be_asked: bool) -> None:
        self.can_be_asked = can_be_asked
        self.asked: list[int] = []
        self.applied = 0
        self._ids = ids

    def allows(self, token: int) -> bool:
        self.asked.append(token)
        return token in self._ids

    def apply(self, logits: Logits) -> None:
        self.applied += 1
        logits[[token for token in range(len(logits)) if token not in self._ids]] = -np.inf


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0),
        SamplingParams(temperature=0, logit_bias={3: 2.0, 5: -100.0}, frequency_penalty=1.5),
        SamplingParams(temperature=0, repeat_penalty=1.8, allowed_token_ids=(1, 2, 3, 4, 5, 6)),
        SamplingParams(seed=5, top_p=0.9),
    ],
    ids=_changed,
)
def test_a_limit_that_is_asked_gives_what_a_limit_that_is_applied_gives(params: SamplingParams) -> None:
    random = np.random.default_rng(3)
    asked, applied = _sampler(params, 30, end=(7,)), _sampler(params, 30, end=(7,))
    masks = questions = 0
    for _ in range(200):
        row = random.normal(0, 2, 30).astype(np.float32)
        ids = set(random.choice(30, 12, replace=False).tolist())
        first, second = (_Limit(ids, can_be_asked=can_be_asked) for can_be_asked in (True, False))
        may_end = bool(random.random() < 0.5)
        token = asked.sample(row.copy(), may_end=may_end, limit=first)
        assert token == applied.sample(row.copy(), may_end=may_end, limit=second)
        assert (second.asked, second.applied) == ([], 1)
        masks, questions = masks + first.applied, questions + len(first.asked)
    assert (questions, masks) == (200, masks) if params.temperature == 0 else (0, 200)
    assert masks > 0


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


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_filters_may_take_the_likeliest_from_greedy_sampling(temperature: float) -> None:
    logits = np.array([2.0, 2.5, 1.5, -9.0], dtype=np.float32)
    always = SamplingParams(temperature=temperature, xtc_probability=1.0, xtc_threshold=0.25, top_k=2, seed=1)
    assert set(_draws(always, logits, 20)) == {0}
    typical = SamplingParams(temperature=temperature, typical_p=0.05, seed=1)
    assert set(_draws(typical, logits, 20)) == {0}


def test_xtc_acts_as_often_as_it_is_asked_to() -> None:
    logits = np.array([5.0, 5.0, -9.0], dtype=np.float32)
    params = SamplingParams(xtc_probability=0.3, xtc_threshold=0.4, seed=8)
    # Half of the draws give token 1 where nothing is taken out, and none where the one of the two that stays is 0.
    share = _draws(params, logits, 20_000).count(1) / 20_000
    assert share == pytest.approx(0.35, abs=0.02)


def test_a_dynamic_temperature_cools_what_is_sure_and_heats_what_is_not() -> None:
    params = SamplingParams(temperature=1.0, dynatemp_range=0.9, seed=4)
    sure = np.array([3.0, 0.0, 0.0, 0.0], dtype=np.float32)
    plain = SamplingParams(temperature=1.0, seed=4)
    assert _draws(params, sure, 5000).count(0) > _draws(plain, sure, 5000).count(0) + 100
    assert set(_draws(params, np.zeros(4, dtype=np.float32), 100)) == {0, 1, 2, 3}


def test_drafted_positions_are_sampled_as_if_one_by_one() -> None:
    """Stopping at the first token that differs from its draft leaves the state as plain sampling would."""
    params = SamplingParams(temperature=0.9, top_p=0.9, frequency_penalty=0.5, dry_multiplier=0.8, seed=6)
    rows = np.random.default_rng(1).normal(0, 2, (40, 50)).astype(np.float32)
    plain = _sampler(params, 50)
    expected = [plain.sample(row.copy(), may_end=True) for row in rows]
    drafting, said = _sampler(params, 50), list[int]()
    random = np.random.default_rng(2)
    while len(said) < len(rows):
        drafts = [t if random.random() < 0.7 else 0 for t in expected[len(said) : len(said) + 4]]
        for row, draft in zip(rows[len(said) :].copy(), [*drafts, -1], strict=False):
            said.append(drafting.sample(row, may_end=True))
            if said[-1] != draft:
                break
    assert said == expected


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


@pytest.mark.parametrize("params", [SamplingParams(temperature=0.0), SamplingParams(seed=1)], ids=_changed)
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
    parameters=st.fixed_dictionaries(
        {
            "top_k": st.integers(0, 20),
            "top_p": st.one_of(st.just(1.0), st.floats(0.0, 1.0), st.just(5e-324)),
            "min_p": st.one_of(st.just(0.0), st.floats(0.0, 1.0), st.just(5e-324)),
        },
        optional={
            "typical_p": st.floats(0.0, 1.0),
            "top_n_sigma": st.floats(0.0, 100.0),
            "xtc_probability": st.floats(0.0, 1.0),
            "xtc_threshold": st.floats(0.0, 1.0),
            "min_keep": st.integers(0, 400),
            "dynatemp_range": st.floats(0.0, 2.0),
            "dynatemp_exponent": st.floats(0.0, 10.0),
            "mirostat": st.integers(0, 2),
            "mirostat_tau": st.floats(0.0, 100.0),
            "mirostat_eta": st.floats(0.0, 1.0),
            "repeat_penalty": st.floats(0.001, 10.0),
            "repeat_last_n": st.integers(-1, 3),
            "dry_multiplier": st.floats(0.0, 100.0),
            "dry_base": st.floats(1.0, 100.0),
            "dry_allowed_length": st.integers(0, 2),
        },
    ),
    logits=st.lists(st.one_of(st.floats(-1e4, 1e4, width=32), st.just(-math.inf)), min_size=2, max_size=300),
    survivor=st.integers(0, 10_000),
)
def test_every_legal_parameter_draws_a_token_that_can_be(
    temperature: float, parameters: dict[str, float], logits: list[float], survivor: int
) -> None:
    """Warnings are errors here, so an overflow or a NaN on the way fails, too."""
    row = np.array(logits, dtype=np.float32)
    row[survivor % len(row)] = 1.0
    params = SamplingParams(temperature=temperature, seed=5, **parameters)  # type: ignore[arg-type]
    for token in _draws(params, row, 3):
        assert np.isfinite(row[token])
    if params.is_cold and parameters.keys() == {"top_k", "top_p", "min_p"}:
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
    ids=_changed,
)
@pytest.mark.parametrize("at", [0, 255, 256, 599])
def test_the_only_token_left_is_drawn(params: SamplingParams, at: int) -> None:
    logits = np.full(600, -np.inf, dtype=np.float32)
    logits[at] = -3.0
    assert set(_draws(params, logits, 20)) == {at}
