"""How many prompt tokens go beside the running streams: learnt, bounded, and never a reason to fall over."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from engine.step_budget import StepBudget

MINIMUM, STEADY, MAXIMUM = 16, 96, 512


def _budget(target_s: float = 0.25) -> StepBudget:
    return StepBudget(target_s=target_s, minimum=MINIMUM, steady=STEADY, maximum=MAXIMUM)


def _taught(token_s: float, decode_s: float, *, width: int = 4) -> StepBudget:
    budget = _budget()
    for _ in range(30):
        budget.learn(decode_width=width, prefill_tokens=0, elapsed_s=decode_s)
        budget.learn(decode_width=width, prefill_tokens=64, elapsed_s=decode_s + 64 * token_s)
    return budget


def test_before_anything_is_known_a_chunk_is_steady() -> None:
    assert _budget().prefill_tokens(decode_width=4, oldest_pending=1000) == STEADY


def test_with_no_stream_to_keep_waiting_the_oldest_prompt_is_read_at_once() -> None:
    budget = _taught(0.01, 0.02)
    assert budget.prefill_tokens(decode_width=0, oldest_pending=300) == 300
    assert budget.prefill_tokens(decode_width=0, oldest_pending=5000) == MAXIMUM
    assert budget.prefill_tokens(decode_width=0, oldest_pending=3) == STEADY


def test_a_slow_machine_gets_smaller_chunks_that_fit_the_gap() -> None:
    budget = _taught(token_s=0.004, decode_s=0.04)
    count = budget.prefill_tokens(decode_width=4, oldest_pending=1000)
    assert MINIMUM < count < STEADY
    assert 0.04 + count * 0.004 <= 0.25


def test_a_fast_machine_keeps_the_steady_chunk() -> None:
    assert _taught(0.0001, 0.005).prefill_tokens(decode_width=4, oldest_pending=1000) == STEADY


def test_a_prompt_of_few_steps_comes_nearer_to_the_gap_than_a_long_one() -> None:
    """Of many steps the longest counts. 96 tokens in two steps instead of three are two percent of the throughput."""
    budget = _taught(token_s=0.0029, decode_s=0.06)
    few = budget.prefill_tokens(decode_width=4, oldest_pending=96)
    many = budget.prefill_tokens(decode_width=4, oldest_pending=2000)
    assert many < 48 <= few
    assert 0.06 + few * 0.0029 <= 0.25
    assert budget.prefill_tokens(decode_width=4, oldest_pending=2 * few + 1) == many


def test_the_end_of_a_long_prompt_is_no_short_one() -> None:
    budget = _taught(token_s=0.0029, decode_s=0.06)
    many = budget.prefill_tokens(decode_width=4, oldest_pending=2000)
    assert budget.prefill_tokens(decode_width=4, oldest_pending=96, oldest_read=1904) == many


def test_a_machine_too_slow_for_the_gap_still_reads_prompts() -> None:
    assert _taught(0.1, 0.5).prefill_tokens(decode_width=4, oldest_pending=1000) == MINIMUM


def test_an_unmeasured_width_is_taken_for_the_nearest() -> None:
    budget = _taught(token_s=0.004, decode_s=0.04, width=4)
    known = budget.prefill_tokens(decode_width=4, oldest_pending=1000)
    assert budget.prefill_tokens(decode_width=5, oldest_pending=1000) == known


def test_it_learns_that_the_machine_became_slower() -> None:
    budget = _taught(token_s=0.001, decode_s=0.02)
    for _ in range(40):
        budget.learn(decode_width=4, prefill_tokens=96, elapsed_s=0.02 + 96 * 0.01)
    assert budget.prefill_tokens(decode_width=4, oldest_pending=1000) == pytest.approx(18, abs=2)


_step = st.tuples(
    st.integers(0, 16),
    st.integers(0, 512),
    st.one_of(st.sampled_from([0.0, 1e-9, 300.0]), st.floats(0.0, 2.0)),
)


@settings(deadline=None, max_examples=300)
@given(
    steps=st.lists(_step, max_size=30),
    width=st.integers(0, 16),
    pending=st.integers(1, 10_000),
    target_s=st.floats(0.001, 10.0),
)
def test_whatever_was_measured_the_chunk_stays_in_its_bounds(
    steps: list[tuple[int, int, float]], width: int, pending: int, target_s: float
) -> None:
    budget = _budget(target_s)
    for decode_width, prefill_tokens, elapsed_s in steps:
        budget.learn(decode_width=decode_width, prefill_tokens=prefill_tokens, elapsed_s=elapsed_s)
    count = budget.prefill_tokens(decode_width=width, oldest_pending=pending)
    assert MINIMUM <= count <= (MAXIMUM if width == 0 else STEADY)


def test_a_step_that_was_faster_than_its_decodes_alone_is_no_division_by_zero() -> None:
    budget = _budget()
    budget.learn(decode_width=4, prefill_tokens=0, elapsed_s=1.0)  # one hiccup of the machine
    budget.learn(decode_width=4, prefill_tokens=96, elapsed_s=0.1)
    assert budget.prefill_tokens(decode_width=2, oldest_pending=1000) >= MINIMUM


def test_what_checking_a_draft_costs_is_measured() -> None:
    budget = _taught(token_s=0.002, decode_s=0.04, width=4)
    assert budget.draft_cost(4) == pytest.approx(0.25, rel=0.1), "a prompt's token, and its logits"
    for _ in range(60):
        budget.learn_check(decode_width=4, drafts=8, elapsed_s=0.04 + 8 * 0.004)
    assert budget.draft_cost(4) == pytest.approx(0.4, rel=0.1)


def test_between_two_widths_a_step_takes_what_is_between() -> None:
    budget = _budget()
    budget.learn(decode_width=2, prefill_tokens=0, elapsed_s=0.010)
    budget.learn(decode_width=10, prefill_tokens=0, elapsed_s=0.030)
    assert [budget.decode_s(width) for width in (1, 2, 6, 10, 16)] == pytest.approx(
        [0.010, 0.010, 0.020, 0.030, 0.030]
    )


def test_drafts_of_some_alone_are_a_pass_of_their_own() -> None:
    budget = _budget()
    budget.learn(decode_width=4, prefill_tokens=0, elapsed_s=0.020)
    budget.learn(decode_width=16, prefill_tokens=0, elapsed_s=0.040)
    for _ in range(60):
        budget.learn_check(decode_width=16, drafting=4, drafts=16, elapsed_s=0.020 + 0.036 + 16 * 0.001)
    assert budget.drafting_s(decode_width=16, drafting=4, drafts=16) == pytest.approx(0.072, rel=0.05)
    assert budget.drafting_s(decode_width=16, drafting=16, drafts=16) == pytest.approx(0.056, rel=0.05)


def test_odd_measurements_do_not_end_drafting_for_ever() -> None:
    budget = _taught(token_s=0.002, decode_s=0.01, width=1)
    for _ in range(30):
        budget.learn_check(decode_width=1, drafts=8, elapsed_s=1.0)
    assert budget.draft_cost(1) > 1.0
    for _ in range(700):
        budget.learn(decode_width=1, prefill_tokens=0, elapsed_s=0.01)
    assert budget.draft_cost(1) < 0.5


def test_a_check_that_was_faster_than_its_decodes_alone_costs_next_to_nothing() -> None:
    budget = _budget()
    budget.learn(decode_width=1, prefill_tokens=0, elapsed_s=1.0)
    budget.learn_check(decode_width=1, drafts=1, elapsed_s=0.1)
    assert 0.0 < budget.draft_cost(1) < 0.01
