"""When looking up is worth a step's time."""

from __future__ import annotations

import pytest

from engine.draft_planner import DraftPlanner
from engine.sequence import Phase, Sequence
from engine.step_budget import StepBudget
from tests.engine.answer_alone import Ask
from tests.engine.bench import Bench

WIDTH = 8
DECODE_S = 0.032


def _repeating() -> list[Sequence]:
    """Sequences whose newest tokens were all seen before."""
    bench = Bench(slots=WIDTH, slot_tokens=256, batch_tokens=64)
    for number in range(WIDTH):
        prompt = (number, 9, 40, 7) * 8
        bench.submit(Ask(prompt=prompt, max_tokens=100, prediction=()))
    sequences = [sequence for each in bench.sequences.values() for sequence in each]
    for sequence in sequences:
        sequence.phase = Phase.DECODE
    return sequences


@pytest.mark.parametrize(
    ("check_s", "drafts"), [(0.001, True), (0.002, True), (0.003, False), (0.006, False)]
)
def test_a_draft_must_be_clearly_cheaper_than_a_decode(check_s: float, drafts: bool) -> None:
    budget = StepBudget(target_s=0.25)
    budget.learn(decode_width=WIDTH, prefill_tokens=0, elapsed_s=DECODE_S)
    for _ in range(60):
        budget.learn_check(decode_width=WIDTH, drafts=16, elapsed_s=DECODE_S + 16 * check_s)
    sequences = _repeating()
    DraftPlanner(budget).plan(sequences, room=64)
    assert any(len(sequence.drafts) for sequence in sequences) is drafts


def test_drafts_keep_the_step_within_its_target() -> None:
    """Checking 24 drafts for each of eight streams would take half a second here.

    What there is room for is shared, since those without a draft would be computed in a pass of their own.
    """
    budget = StepBudget(target_s=0.1)
    budget.learn(decode_width=WIDTH, prefill_tokens=0, elapsed_s=DECODE_S)
    for _ in range(60):
        budget.learn_check(decode_width=WIDTH, drafts=16, elapsed_s=DECODE_S + 16 * 0.0025)
    sequences = _repeating()
    DraftPlanner(budget).plan(sequences, room=200)
    drafts = sum(len(sequence.drafts) for sequence in sequences)
    assert drafts == WIDTH
    assert DECODE_S + drafts * 0.0025 <= 0.1


def _reaching(lengths: list[int]) -> list[Sequence]:
    """Sequences that repeat themselves and have so many tokens left: one less is the longest draft."""
    bench = Bench(slots=len(lengths), slot_tokens=256, batch_tokens=64)
    for number, length in enumerate(lengths):
        bench.submit(Ask(prompt=(number, 9, 40, 7) * 8, max_tokens=length + 1, prediction=()))
    sequences = [sequence for each in bench.sequences.values() for sequence in each]
    for sequence in sequences:
        sequence.phase = Phase.DECODE
    return sequences


def _cheap() -> StepBudget:
    budget = StepBudget(target_s=10.0)
    # A pass of its own costs next to nothing either.
    for width in (1, 2):
        budget.learn(decode_width=width, prefill_tokens=0, elapsed_s=width * DECODE_S / 3)
    budget.learn(decode_width=3, prefill_tokens=0, elapsed_s=DECODE_S)
    for _ in range(60):
        budget.learn_check(decode_width=3, drafts=16, elapsed_s=DECODE_S + 16 * 0.0001)
    return budget


@pytest.mark.parametrize(
    ("lengths", "levelled"),
    [([8, 8, 8], [8, 8, 8]), ([8, 7, 2], [7, 7, 0]), ([9, 1, 1], [9, 0, 0]), ([3, 3, 8], [3, 3, 3])],
)
def test_drafts_of_one_step_are_equally_long_and_as_many_as_can_be(
    lengths: list[int], levelled: list[int]
) -> None:
    """Each other length would be computed in a pass of its own."""
    sequences = _reaching(lengths)
    DraftPlanner(_cheap()).plan(sequences, room=64)
    assert [len(sequence.drafts) for sequence in sequences] == levelled


@pytest.mark.parametrize(("drafting", "drafts"), [(1, False), (2, False), (8, True), (16, True)])
def test_few_drafts_in_a_wide_step_are_not_worth_the_pass_they_are_computed_in(
    drafting: int, drafts: bool
) -> None:
    """By the figures of the bundled model: a step of 16 takes 33 ms, and one of 8 drafts in it 57 instead."""
    budget = StepBudget(target_s=0.25)
    for width, elapsed_s in ((1, 0.005), (2, 0.010), (4, 0.016), (8, 0.020), (12, 0.028), (16, 0.033)):
        budget.learn(decode_width=width, prefill_tokens=0, elapsed_s=elapsed_s)
    for _ in range(60):
        budget.learn_check(decode_width=16, drafts=128, elapsed_s=0.033 + 128 * 0.0013)
    bench = Bench(slots=16, slot_tokens=256, batch_tokens=256)
    for number in range(16):
        repeats = (number, 9, 40, 7) * 8 if number < drafting else tuple(range(32))
        bench.submit(Ask(prompt=repeats, max_tokens=9, prediction=()))
    sequences = [sequence for each in bench.sequences.values() for sequence in each]
    for sequence in sequences:
        sequence.phase = Phase.DECODE
        assert sequence.drafter is not None
        sequence.drafter.learn(60, 60)
    DraftPlanner(budget).plan(sequences, room=200)
    assert any(len(sequence.drafts) for sequence in sequences) is drafts


def test_in_one_pass_drafts_may_differ() -> None:
    sequences = _reaching([8, 7, 2])
    DraftPlanner(_cheap(), is_one_pass=True).plan(sequences, room=64)
    assert [len(sequence.drafts) for sequence in sequences] == [8, 7, 2]


def test_until_a_check_was_measured_a_wide_step_drafts_nothing() -> None:
    """A token of a prompt is cheaper than a draft, which has logits: at width 16 drafting once cost a fifth."""
    budget = StepBudget(target_s=0.25)
    budget.learn(decode_width=0, prefill_tokens=96, elapsed_s=96 * 0.0029)
    budget.learn(decode_width=16, prefill_tokens=0, elapsed_s=0.0606)
    budget.learn(decode_width=1, prefill_tokens=0, elapsed_s=0.0081)
    assert budget.draft_cost(16) > 0.9
    assert budget.draft_cost(1) < 0.5


def test_what_is_thought_too_dear_is_tried_now_and_then() -> None:
    """What a draft costs may have been learnt while another program had the cores: only a draft can tell."""
    budget = StepBudget(target_s=0.25)
    budget.learn(decode_width=WIDTH, prefill_tokens=0, elapsed_s=DECODE_S)
    for _ in range(60):
        budget.learn_check(decode_width=WIDTH, drafts=16, elapsed_s=DECODE_S + 16 * 0.01)
    sequences = _repeating()
    planner = DraftPlanner(budget)
    drafting: list[int] = []
    for number in range(250):
        planner.plan(sequences, room=64)
        drafts = sum(len(sequence.drafts) for sequence in sequences)
        elapsed_s = DECODE_S + drafts * 0.01
        budget.learn(decode_width=WIDTH, prefill_tokens=drafts, elapsed_s=elapsed_s)
        if drafts:
            budget.learn_check(decode_width=WIDTH, drafts=drafts, elapsed_s=elapsed_s)
            drafting.append(number)
    assert drafting == [100, 201]


def test_a_try_teaches_what_a_draft_costs() -> None:
    budget = StepBudget(target_s=0.25)
    for elapsed_s in (DECODE_S + 16 * 0.01, DECODE_S + 16 * 0.001):
        for _ in range(60):
            budget.learn_check(decode_width=WIDTH, drafts=16, elapsed_s=elapsed_s)
            budget.learn(decode_width=WIDTH, prefill_tokens=0, elapsed_s=DECODE_S)
    assert budget.draft_cost(WIDTH) < 0.5
    assert not budget.is_probe_due(WIDTH)
