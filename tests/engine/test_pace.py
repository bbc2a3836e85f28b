"""Tokens a second, from totals that a worker tells."""

from __future__ import annotations

import pytest

from engine.config import EngineStats
from engine.histogram import Histogram
from engine.pace import Pace


def stats(*, prompt: int = 0, cached: int = 0, generated: int = 0, seconds: float = 0.0) -> EngineStats:
    return EngineStats(
        prompt_tokens_total=prompt,
        cached_prompt_tokens_total=cached,
        generation_tokens_total=generated,
        step_seconds_total=Histogram([0], seconds),
    )


def test_nothing_is_known_before_anything_is_computed() -> None:
    pace = Pace()
    assert pace.tokens_per_s is None
    assert pace.seconds_for(100) is None
    pace.learn(stats())
    assert pace.tokens_per_s is None


def test_the_rate_is_of_what_was_computed_and_not_of_what_the_cache_spared() -> None:
    pace = Pace()
    pace.learn(stats(prompt=300, cached=100, generated=50, seconds=2.0))
    assert pace.tokens_per_s == pytest.approx(125.0)
    assert pace.seconds_for(250) == pytest.approx(2.0)


def test_what_is_new_counts_more() -> None:
    pace = Pace()
    pace.learn(stats(generated=1000, seconds=10.0))
    for step in range(1, 121):
        pace.learn(stats(generated=1000 + 10 * step, seconds=10.0 + step))
    assert pace.tokens_per_s == pytest.approx(10.0, rel=0.2), "two minutes later, 100 a second are forgotten"


def test_a_new_worker_counts_anew() -> None:
    pace = Pace()
    pace.learn(stats(generated=100, seconds=1.0))
    pace.restart()
    pace.learn(stats(generated=50, seconds=0.5))
    assert pace.tokens_per_s == pytest.approx(100.0)


def test_the_length_of_answers_is_learnt() -> None:
    pace = Pace()
    for _ in range(200):
        pace.learn_answer(20)
    assert pace.answer_tokens == pytest.approx(20, abs=1)
