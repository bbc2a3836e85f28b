"""Turns among sequences of one priority: in the order of arrival, and in turn between those who share the server.

A tenant is whoever the server tells apart: an API key, say. One that sends a thousand requests makes its own
requests wait, not those of the others. A tenant's own turns go round among the adapter sets that it asks for, so that
a thousand requests for one adapter do not keep those for another, or for the model alone, from their slots. Pure.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from engine.adapter_set import AdapterSet
from engine.sequence import Sequence

_Lines = OrderedDict[AdapterSet, deque[Sequence]]


class TenantTurns:
    """Owned by the worker's engine thread, through its queue. All but ``remove`` take constant time."""

    def __init__(self) -> None:
        # Both in the order of their turns: the first is next. No line is ever empty, and no tenant is without one.
        self._tenants: OrderedDict[str, _Lines] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._tenants)

    def add(self, sequence: Sequence) -> None:
        """Put ``sequence`` at the end of its line; a tenant who had none waits for a whole round at most."""
        lines = self._tenants.setdefault(sequence.tenant, OrderedDict())
        lines.setdefault(sequence.adapters, deque()).append(sequence)

    def first(self) -> Sequence:
        """Whose turn it is. There must be someone."""
        return next(iter(next(iter(self._tenants.values())).values()))[0]

    def pop(self) -> Sequence:
        """Take out whose turn it is; its tenant's next turn comes after everybody else's."""
        sequence = self.first()
        lines = self._tenants[sequence.tenant]
        lines[sequence.adapters].popleft()
        self._close(sequence)
        if lines:
            self._tenants.move_to_end(sequence.tenant)
        if sequence.adapters in lines:
            lines.move_to_end(sequence.adapters)
        return sequence

    def remove(self, sequence: Sequence) -> None:
        """Take out ``sequence``, wherever it stands. Raises KeyError or ValueError if it does not wait here."""
        self._tenants[sequence.tenant][sequence.adapters].remove(sequence)
        self._close(sequence)

    def _close(self, sequence: Sequence) -> None:
        """Forget the line that ``sequence`` was taken out of, if that is empty now."""
        lines = self._tenants[sequence.tenant]
        if not lines[sequence.adapters]:
            del lines[sequence.adapters]
            if not lines:
                del self._tenants[sequence.tenant]
