"""Who runs next: the most urgent first, and nobody never.

Sequences wait on the level of their priority, of which a lower number is more urgent, as vLLM has it. Of every
``SHARE`` turns, all but one go to the most urgent level on which anybody waits. That one goes to the level whose last
turn is longest ago, so that with k levels each gets one turn in ``SHARE * k`` at least, whatever arrives above it.
(Waiting that makes more urgent, the usual remedy, would let a long queue of old and idle work overtake what is urgent.)
Within a level tenants take turns (``engine.tenant_turns``). What runs already is never taken out for what waits.
"""

from __future__ import annotations

from collections import deque

from engine.sequence import Sequence
from engine.tenant_turns import TenantTurns

SHARE = 8


class WaitingQueue:
    """Sequences without a slot. Owned by the worker's engine thread. Time goes with the levels, not the sequences,
    but for ``remove``."""

    def __init__(self) -> None:
        self._levels: dict[int, TenantTurns] = {}
        """By priority, in the order of their last turns: the first had its own longest ago. None is empty."""
        self._returned: deque[Sequence] = deque()
        """Whoever had a turn and could not use it."""
        self._turn = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, sequence: Sequence) -> None:
        """Put ``sequence`` behind those of its tenant, on its level."""
        self._levels.setdefault(sequence.priority, TenantTurns()).add(sequence)
        self._count += 1

    def put_back(self, sequence: Sequence) -> None:
        """Put ``sequence``, which had its turn already, before everybody."""
        self._returned.appendleft(sequence)
        self._count += 1

    def first(self) -> Sequence:
        """Whose turn it is: the same until somebody more urgent comes, or it is taken. The queue must not be empty."""
        return self._returned[0] if self._returned else self._levels[self._next_level()].first()

    def pop(self) -> Sequence:
        """Take out whose turn it is."""
        self._count -= 1
        if self._returned:
            return self._returned.popleft()
        priority = self._next_level()
        turns = self._levels.pop(priority)
        sequence = turns.pop()
        if turns:
            self._levels[priority] = turns
        self._turn += 1
        return sequence

    def remove(self, sequence: Sequence) -> None:
        """Take out ``sequence``, wherever it stands. Raises KeyError or ValueError if it does not wait."""
        if sequence in self._returned:
            self._returned.remove(sequence)
        else:
            turns = self._levels[sequence.priority]
            turns.remove(sequence)
            if not turns:
                del self._levels[sequence.priority]
        self._count -= 1

    def _next_level(self) -> int:
        is_shared = self._turn % SHARE == SHARE - 1
        return next(iter(self._levels)) if is_shared else min(self._levels)
