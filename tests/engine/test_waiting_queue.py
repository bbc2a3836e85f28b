"""Turns of priorities, tenants and their adapter sets, against the obvious: lists, looked through anew each time."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.adapter_set import AdapterSet
from engine.sequence import Sequence
from engine.waiting_queue import SHARE, WaitingQueue
from tests.engine.answer_alone import Ask
from tests.engine.bench import Bench

_SETS = tuple(AdapterSet(((number, 1.0),) * (number > 0), str(number)) for number in range(3))
_Turn = tuple[int, str]
_SetTurn = tuple[int, str, AdapterSet]


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue = WaitingQueue()
        self.waiting: list[Sequence] = []
        self.returned: list[Sequence] = []
        self.levels: list[int] = []
        """Priorities that wait, whose last turn is longest ago first."""
        self.turns: list[_Turn] = []
        """Tenants of a priority that wait, whose turn is next first."""
        self.sets: list[_SetTurn] = []
        """Each tenant's adapter sets that wait, whose turn is next first."""
        self.taken = 0
        self.bench = Bench()

    @rule(
        priority=st.sampled_from((-3, 0, 7)), tenant=st.sampled_from("abc"), adapters=st.sampled_from(_SETS)
    )
    def add(self, priority: int, tenant: str, adapters: AdapterSet) -> None:
        ask = Ask((1,), tenant=tenant, priority=priority, adapters=adapters)
        (sequence,) = self.bench.sequences[self.bench.submit(ask)]
        self.queue.add(sequence)
        self.waiting.append(sequence)
        if priority not in self.levels:
            self.levels.append(priority)
        if (priority, tenant) not in self.turns:
            self.turns.append((priority, tenant))
        if (priority, tenant, adapters) not in self.sets:
            self.sets.append((priority, tenant, adapters))

    @precondition(lambda self: self.waiting or self.returned)
    @rule()
    def pop(self) -> None:
        if self.returned:
            expected = self.returned.pop(0)
            assert self.queue.first() is expected
            assert self.queue.pop() is expected
            return
        self.taken += 1
        level = min(self.levels) if self.taken % SHARE else self.levels[0]
        turn = next(each for each in self.turns if each[0] == level)
        set_turn = next(each for each in self.sets if each[:2] == turn)
        expected = next(s for s in self.waiting if _set_turn_of(s) == set_turn)
        assert self.queue.first() is expected
        assert self.queue.pop() is expected
        self.waiting.remove(expected)
        self.levels.remove(level)
        self.turns.remove(turn)
        self.sets.remove(set_turn)
        if any(s.priority == level for s in self.waiting):
            self.levels.append(level)
        if any(_set_turn_of(s)[:2] == turn for s in self.waiting):
            self.turns.append(turn)
        if any(_set_turn_of(s) == set_turn for s in self.waiting):
            self.sets.append(set_turn)

    @precondition(lambda self: self.waiting or self.returned)
    @rule()
    def put_back(self) -> None:
        """Who had its turn has it again, and nobody else loses one by that."""
        sequence = self.queue.first()
        self.pop()
        self.queue.put_back(sequence)
        self.returned.insert(0, sequence)

    @precondition(lambda self: self.waiting or self.returned)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.waiting + self.returned))
        self.queue.remove(sequence)
        if sequence in self.returned:
            self.returned.remove(sequence)
            return
        self.waiting.remove(sequence)
        self.levels = [each for each in self.levels if any(s.priority == each for s in self.waiting)]
        self.turns = [each for each in self.turns if any(_set_turn_of(s)[:2] == each for s in self.waiting)]
        self.sets = [each for each in self.sets if any(_set_turn_of(s) == each for s in self.waiting)]

    @invariant()
    def counts(self) -> None:
        assert len(self.queue) == len(self.waiting) + len(self.returned)


def _set_turn_of(sequence: Sequence) -> _SetTurn:
    return sequence.priority, sequence.tenant, sequence.adapters


TestQueue = QueueMachine.TestCase


def _sequence(bench: Bench, tenant: str = "", priority: int = 0) -> Sequence:
    (made,) = bench.sequences[bench.submit(Ask(prompt=(1,), tenant=tenant, priority=priority))]
    return made


def test_one_who_floods_the_queue_delays_another_by_one_turn() -> None:
    queue = WaitingQueue()
    bench = Bench()
    for _ in range(100):
        queue.add(_sequence(bench, "flood"))
    queue.pop()
    queue.add(_sequence(bench, "other"))
    assert [queue.pop().tenant for _ in range(3)] == ["flood", "other", "flood"]


def test_what_is_urgent_overtakes_what_has_waited() -> None:
    queue = WaitingQueue()
    bench = Bench()
    for _ in range(3):
        queue.add(_sequence(bench, priority=5))
    queue.add(_sequence(bench, priority=-5))
    assert [queue.pop().priority for _ in range(4)] == [-5, 5, 5, 5]


def test_what_is_idle_gets_its_share_however_much_is_urgent() -> None:
    """Two levels below one that never runs dry: each gets a turn in every ``2 * SHARE``."""
    queue = WaitingQueue()
    bench = Bench()
    for priority in (10, 20, 10, 20):
        queue.add(_sequence(bench, priority=priority))
    served: list[int] = []
    for _ in range(4 * SHARE):
        queue.add(_sequence(bench))
        served.append(queue.pop().priority)
    assert [served[SHARE - 1 :: SHARE][i] for i in range(4)] == [10, 20, 10, 20]
    assert served.count(0) == len(served) - 4


def test_a_long_request_whose_turn_it_is_keeps_it_until_there_is_room() -> None:
    """Its turn comes, and goes to nobody else of those that are more urgent, however often they are looked at."""
    queue = WaitingQueue()
    bench = Bench()
    idle = _sequence(bench, priority=1)
    queue.add(idle)
    for _ in range(SHARE - 1):
        queue.add(_sequence(bench))
        queue.pop()
    for _ in range(100):
        queue.add(_sequence(bench))
        assert queue.first() is idle
    assert queue.pop() is idle
