"""Turns between tenants, against the obvious: lists, looked through anew each time."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.sequence import Sequence
from engine.waiting_queue import WaitingQueue
from tests.engine.bench import Ask, Bench


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue = WaitingQueue()
        self.waiting: list[Sequence] = []
        self.turns: list[str] = []
        """Tenants that wait, whose turn is next first."""
        self.bench = Bench()

    @rule(tenant=st.sampled_from("abc"))
    def add(self, tenant: str) -> None:
        (sequence,) = self.bench.sequences[self.bench.submit(Ask(prompt=(1,)))]
        sequence.tenant = tenant
        self.queue.add(sequence)
        self.waiting.append(sequence)
        if tenant not in self.turns:
            self.turns.append(tenant)

    @precondition(lambda self: self.waiting)
    @rule()
    def pop(self) -> None:
        tenant = self.turns.pop(0)
        expected = next(s for s in self.waiting if s.tenant == tenant)
        assert self.queue.first() is expected
        assert self.queue.pop() is expected
        self.waiting.remove(expected)
        if any(s.tenant == tenant for s in self.waiting):
            self.turns.append(tenant)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.waiting))
        self.queue.remove(sequence)
        self.waiting.remove(sequence)
        if not any(s.tenant == sequence.tenant for s in self.waiting):
            self.turns.remove(sequence.tenant)

    @invariant()
    def counts(self) -> None:
        assert len(self.queue) == len(self.waiting)


TestQueue = QueueMachine.TestCase


def test_one_who_floods_the_queue_delays_another_by_one_turn() -> None:
    queue = WaitingQueue()
    bench = Bench()

    def sequence(tenant: str) -> Sequence:
        (made,) = bench.sequences[bench.submit(Ask(prompt=(1,)))]
        made.tenant = tenant
        return made

    for _ in range(100):
        queue.add(sequence("flood"))
    queue.pop()
    queue.add(sequence("other"))
    assert [queue.pop().tenant for _ in range(3)] == ["flood", "other", "flood"]
