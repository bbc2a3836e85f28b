"""Turns between adapter sets by themselves: each its share of the round, and nobody waits for ever."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from engine.adapter_set import NO_ADAPTERS, AdapterSet
from engine.adapter_turns import MOST_STEPS, AdapterTurns

_SETS = tuple(AdapterSet(((number, 1.0),), str(number)) for number in range(5))


def _steps(turns: AdapterTurns, count: int, elapsed_s: float = 0.01) -> list[AdapterSet]:
    """The sets of the next ``count`` steps, of ``elapsed_s`` each."""
    chosen = []
    for _ in range(count):
        chosen.append(turns.choose())
        turns.took(elapsed_s)
    return chosen


class TurnsMachine(RuleBasedStateMachine):
    """Sequences come and go, and steps take whatever they take."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = AdapterTurns(0.25)
        self.running: list[AdapterSet] = []
        self.waited: dict[AdapterSet, int] = {}
        self.sets = 0

    @rule(adapters=st.sampled_from(_SETS))
    def add(self, adapters: AdapterSet) -> None:
        self.turns.add(adapters)
        self.running.append(adapters)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        adapters = data.draw(st.sampled_from(self.running))
        self.turns.remove(adapters)
        self.running.remove(adapters)
        if adapters not in self.running:
            self.waited.pop(adapters, None)

    @precondition(lambda self: self.running)
    @rule(elapsed_s=st.sampled_from([0.0, 0.001, 0.03, 0.5]), count=st.integers(1, 10))
    def step(self, elapsed_s: float, count: int) -> None:
        for _ in range(count):
            chosen = self.turns.choose()
            assert chosen in self.running
            self.turns.took(elapsed_s)
            self.sets = max(self.sets, len(set(self.running)))
            parked = set(self.running) - {chosen}
            self.waited = {each: self.waited.get(each, 0) + 1 for each in parked}
            assert all(steps <= MOST_STEPS * (self.sets - 1) for steps in self.waited.values())


TestTurns = TurnsMachine.TestCase


def test_with_nothing_that_runs_there_are_no_adapters() -> None:
    assert AdapterTurns(0.25).choose() == NO_ADAPTERS


@pytest.mark.parametrize(
    ("sets", "elapsed_s", "turn"), [(2, 0.05, 2), (3, 0.02, 4), (2, 0.5, 1), (4, 0.0, 16)]
)
def test_each_set_has_its_share_of_the_round(sets: int, elapsed_s: float, turn: int) -> None:
    turns = AdapterTurns(0.25)
    for each in _SETS[:sets]:
        turns.add(each)
    expected = [each for each in _SETS[:sets] for _ in range(turn)]
    assert _steps(turns, 2 * len(expected), elapsed_s) == expected * 2


def test_one_set_alone_is_never_interrupted_and_yields_to_a_newcomer_at_once() -> None:
    turns = AdapterTurns(0.25)
    turns.add(_SETS[0])
    assert set(_steps(turns, 100)) == {_SETS[0]}
    turns.add(_SETS[1])
    assert turns.choose() == _SETS[1]


def test_one_that_comes_and_goes_again_and_again_does_not_starve_the_others() -> None:
    turns = AdapterTurns(0.25)
    turns.add(_SETS[0])
    _steps(turns, 100)
    chosen: list[AdapterSet] = []
    for _ in range(50):
        turns.add(_SETS[1])
        chosen += _steps(turns, 1)
        turns.remove(_SETS[1])
        chosen += _steps(turns, 1)
    assert chosen.count(_SETS[0]) > 50
