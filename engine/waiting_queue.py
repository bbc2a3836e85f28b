"""Who runs next: in the order of arrival, and in turn between those who share the server.

A tenant is whoever the server tells apart: an API key, say. One that sends a thousand requests makes its own
requests wait, not those of the others.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from engine.sequence import Sequence


class WaitingQueue:
    """Sequences without a slot. Owned by the worker's engine thread. All but ``remove`` take constant time."""

    def __init__(self) -> None:
        # In the order of their turns: the first is next. No tenant's line is ever empty.
        self._lines: OrderedDict[str, deque[Sequence]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, sequence: Sequence) -> None:
        """Put ``sequence`` at the end of its tenant's line; a tenant who had none waits for a whole round at most."""
        self._lines.setdefault(sequence.tenant, deque()).append(sequence)
        self._count += 1

    def first(self) -> Sequence:
        """Whose turn it is. The queue must not be empty."""
        return next(iter(self._lines.values()))[0]

    def pop(self) -> Sequence:
        """Take out whose turn it is; its tenant's next turn comes after everybody else's."""
        tenant, line = next(iter(self._lines.items()))
        sequence = line.popleft()
        self._count -= 1
        if line:
            self._lines.move_to_end(tenant)
        else:
            del self._lines[tenant]
        return sequence

    def remove(self, sequence: Sequence) -> None:
        """Take out ``sequence``, wherever it stands. Raises KeyError or ValueError if it does not wait."""
        line = self._lines[sequence.tenant]
        line.remove(sequence)
        self._count -= 1
        if not line:
            del self._lines[sequence.tenant]
