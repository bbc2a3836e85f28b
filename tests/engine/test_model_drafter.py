"""How far a draft model is to guess for one sequence: as far as pays, and never at a loss that is felt."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from engine.model_drafter import ModelDrafter, best_length
from engine.trust import Trust


@given(trust=st.floats(0, 1), cost=st.floats(0, 2), most=st.integers(0, 16))
def test_the_best_length_is_the_best_of_all(trust: float, cost: float, most: int) -> None:
    times = [(1 + k * cost) / sum(trust**j for j in range(k + 1)) for k in range(most + 1)]
    length, gain = best_length(trust, cost, most)
    assert 1.0 - gain == pytest.approx(times[length])
    assert times[length] == pytest.approx(min(times))


def _length(drafter: ModelDrafter, cost: float, lag_cost: float = 0.0, left: int = 100, most: int = 8) -> int:
    return drafter.length(most=most, token_cost=cost, lag_cost=lag_cost, left=left)


def test_a_long_prompt_is_read_only_where_the_answer_may_repay_it() -> None:
    drafter = ModelDrafter(Trust(0.8, 32))
    assert _length(drafter, 0.2, lag_cost=10.0)
    assert not _length(drafter, 0.2, lag_cost=10.0, left=5)
    assert not _length(drafter, 0.2, lag_cost=1000.0)


@pytest.mark.parametrize("cost", [1.0, 1.7])
def test_a_draft_model_that_is_as_dear_as_the_other_is_never_asked(cost: float) -> None:
    drafter = ModelDrafter(Trust(1.0, 32))
    for _ in range(10_000):
        assert not _length(drafter, cost)
        drafter.rest()


def _played(truth: float, cost: float, tokens: int = 4000, lag_per_token: float = 0.02) -> float:
    """Cost of ``tokens`` where each guess comes true with probability ``truth``, per token; plain decoding is 1."""
    chance = random.Random(7)
    drafter = ModelDrafter(Trust(0.7, 32))
    made, spent, lag = 0, 0.0, 100
    while made < tokens:
        length = _length(drafter, cost, lag_cost=lag * lag_per_token, left=max(64, made))
        spent += 1.0
        made += 1
        lag += 1
        if not length:
            drafter.rest()
            continue
        spent += length * cost + (lag - 1) * lag_per_token
        lag = 0
        accepted = 0
        while accepted < length and chance.random() < truth:
            accepted += 1
        made += accepted
        drafter.learn(length, accepted)
    return spent / made


@pytest.mark.parametrize("truth", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("cost", [0.35, 0.6, 0.9])
def test_text_that_is_not_guessed_loses_next_to_nothing(truth: float, cost: float) -> None:
    assert _played(truth, cost) < 1.03


@pytest.mark.parametrize(("truth", "cost", "most"), [(0.9, 0.3, 0.62), (0.8, 0.2, 0.65), (0.98, 0.5, 0.75)])
def test_text_that_is_guessed_comes_sooner(truth: float, cost: float, most: float) -> None:
    assert _played(truth, cost) < most


def test_a_text_that_becomes_easy_is_found_out() -> None:
    drafter = ModelDrafter(Trust(0.7, 32))
    for _ in range(50):
        if length := _length(drafter, 0.4):
            drafter.learn(length, 0)
        else:
            drafter.rest()
    steps = 0
    while drafter.trust < 0.8:
        steps += 1
        assert steps < 500
        if length := _length(drafter, 0.4):
            drafter.learn(length, length)
        else:
            drafter.rest()


def test_what_is_learnt_of_one_sequence_is_where_the_next_begins() -> None:
    common = Trust(0.7, 32)
    drafter = ModelDrafter(common)
    for _ in range(60):
        drafter.learn(4, 0)
    assert not _length(ModelDrafter(common), 0.3)
