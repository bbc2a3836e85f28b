"""The draft model within the core: it guesses right, costs what it should, and fails no request."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

import pytest

from engine.sampling.params import SamplingParams
from tests.engine.answer_alone import Ask
from tests.engine.bench import Bench
from tests.fakes.backend import FakeBackend
from tests.fakes.draft_backend import draft_backend as make_draft_backend

_LETTERS = tuple(range(33, 127))
"""So many that nothing can be looked up; and no end, for which there is a test of its own."""
draft_backend = partial(make_draft_backend, alphabet=_LETTERS)
_PROMPT = tuple(range(40, 60))
_LONG = Ask(prompt=_PROMPT, max_tokens=60, prediction=())
"""It may draft."""


def _run(draft: FakeBackend | None, *asks: Ask, draft_s: float = 1e-5, **bench: int) -> Bench:
    made = Bench(alphabet=_LETTERS, draft=draft, draft_s=draft_s, **bench)  # type: ignore[arg-type]  # plain numbers
    for ask in asks:
        made.submit(ask)
    made.run()
    made.check_answers()
    return made


def _accepted(bench: Bench) -> tuple[int, int]:
    stats = bench.core.stats
    return stats.accepted_draft_tokens_total, stats.draft_tokens_total


def test_a_draft_model_that_is_right_spares_most_steps() -> None:
    bench = _run(draft_backend(), _LONG)
    accepted, drafted = _accepted(bench)
    assert accepted == drafted > 40, "what it reads is what the sequence is"
    assert len(bench.backend.steps) < 25


def test_several_sequences_are_guessed_for_in_one_batch() -> None:
    draft = draft_backend()
    asks = [replace(_LONG, prompt=(n, *_PROMPT)) for n in range(4)]
    bench = _run(draft, *asks)
    accepted, drafted = _accepted(bench)
    assert accepted == drafted > 150
    assert sum(len(step) == 4 for step in draft.steps) > len(draft.steps) / 2


@pytest.mark.parametrize("ignores_end", [False, True])
def test_an_end_is_guessed_like_any_token(ignores_end: bool) -> None:
    asks = [Ask(prompt=(n, 7), max_tokens=30, ignores_end=ignores_end, prediction=()) for n in range(20)]
    bench = Bench(draft=make_draft_backend(), draft_s=1e-5)
    for ask in asks:
        bench.submit(ask)
    bench.run()
    bench.check_answers()
    bench.check_nothing_leaked()
    accepted, drafted = _accepted(bench)
    assert 0 < accepted <= drafted


def test_a_sampled_answer_is_what_it_is_without() -> None:
    """``check_answers`` compares with plain decoding under the same seed."""
    sampling = SamplingParams(temperature=2.0, top_p=0.95, seed=11)
    accepted, drafted = _accepted(_run(draft_backend(4), replace(_LONG, sampling=sampling, n=3)))
    assert 0 < accepted < drafted


def test_a_draft_model_that_is_wrong_is_asked_seldom() -> None:
    bench = _run(draft_backend(1), *[_LONG] * 30, draft_s=3e-4)
    accepted, drafted = _accepted(bench)
    assert accepted == 0 < drafted < 100, "of 1800 tokens"


def test_a_draft_model_that_is_slow_is_not_asked_once_that_is_known() -> None:
    draft = draft_backend()
    # Room to read the prompt in one step: what a token takes is learnt from no fewer than sixteen.
    _run(draft, *[_LONG] * 5, draft_s=0.01, batch_tokens=32)
    assert 0 < len(draft.steps) < 10


def test_who_may_not_draft_is_not_read() -> None:
    draft = draft_backend()
    _run(draft, replace(_LONG, prediction=None))
    assert not draft.steps


def test_a_prompt_longer_than_a_batch_is_read_in_parts() -> None:
    draft = draft_backend(batch_tokens=8)
    bench = _run(draft, replace(_LONG, prompt=tuple(range(60))))
    assert all(sum(count for _, count in step) <= 8 for step in draft.steps)
    accepted, drafted = _accepted(bench)
    assert accepted == drafted > 30


def test_choices_read_their_prompt_once_and_other_tenants_again() -> None:
    prompt = tuple(range(100, 160))
    draft = draft_backend(slots=3)
    bench = Bench(slots=3, alphabet=_LETTERS, draft=draft, draft_s=1e-5)
    bench.submit(replace(_LONG, prompt=prompt, max_tokens=20, n=2))
    bench.run()
    assert draft.computed < 60 + 2 * 25
    copies, before, drafted = draft.copies, draft.computed, bench.core.stats.draft_tokens_total
    bench.submit(replace(_LONG, prompt=prompt, max_tokens=20, tenant="other"))
    bench.run()
    assert bench.core.stats.draft_tokens_total > drafted
    assert draft.copies == copies
    assert draft.computed - before >= 60
    bench.check_answers()


def test_a_pool_that_is_full_is_emptied_of_what_runs_no_more() -> None:
    """The backend refuses more than its pool holds."""
    draft = draft_backend(pool_tokens=200)
    asks = [replace(_LONG, prompt=(n, *_PROMPT), max_tokens=70) for n in range(9)]
    accepted, drafted = _accepted(_run(draft, *asks, pool_tokens=200))
    assert accepted == drafted > 9 * 40


def test_nothing_is_guessed_past_what_the_draft_model_can_hold() -> None:
    draft = draft_backend()
    bench = Bench(alphabet=_LETTERS, draft=draft, draft_s=1e-5, draft_most_tokens=50)
    bench.submit(_LONG)
    bench.run()
    bench.check_answers()
    assert draft.steps
    assert max(map(len, draft.held)) <= 50


@pytest.mark.parametrize("nth", range(1, 8))
def test_a_failure_costs_a_guess_and_no_request(nth: int, caplog: pytest.LogCaptureFixture) -> None:
    draft = draft_backend()
    fails = iter([False] * (nth - 1) + [True])
    draft.fail_decode = lambda: next(fails, False)
    bench = _run(draft, _LONG, _LONG)
    assert not bench.failed
    accepted, drafted = _accepted(bench)
    assert accepted == drafted > 80
    assert ["this step goes without" in record.message for record in caplog.records] == [True]


@pytest.mark.parametrize("kind", ["decode", "transfer"])
def test_failures_without_end_switch_the_draft_model_off(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    draft = draft_backend()
    setattr(draft, f"fail_{kind}", lambda: True)
    with caplog.at_level(logging.WARNING):
        bench = _run(draft, *[_LONG] * 4)
    assert not bench.failed
    assert bench.core.stats.draft_tokens_total == 0
    assert len(caplog.records) == 3
    assert "is not used any more" in caplog.records[-1].message
