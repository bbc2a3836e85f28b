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
