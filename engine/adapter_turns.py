"""Which adapter set the next step computes, of those that sequences run with.

llama.cpp sets adapters on the whole context, so one step computes sequences of one set. The sets take turns, in
the order in which they came. A turn lasts for an equal share of the target gap, so that a round of all sets takes
about as long as a stream may wait; but one step at least, and 16 at most. Setting other adapters costs some
milliseconds (3 for 135 M parameters, where a step takes 8 to 40), which is why a turn is not simply one step.

So with ``n`` sets nobody waits for more than 16 (n - 1) steps, however many sequences the others have. Sequences
whose set is not on turn keep their slots. A set that comes anew waits behind all others; and one that ran alone has
had its turn, and yields to the newcomer with the next step.
"""

from __future__ import annotations

from collections import OrderedDict

from engine.adapter_set import NO_ADAPTERS, AdapterSet

MOST_STEPS = 16


class AdapterTurns:
    """Owned by the worker's engine thread."""

    def __init__(self, round_s: float) -> None:
        """``round_s`` is how long a round of all sets should take."""
        self._round_s = round_s
        # Sequences of each set. The first has the turn.
        self._running: OrderedDict[AdapterSet, int] = OrderedDict()
        self._steps = 0
        self._spent_s = 0.0
        self._last_s = 0.0

    def __len__(self) -> int:
        """Sets that sequences run with."""
        return len(self._running)

    def add(self, adapters: AdapterSet) -> None:
        """A sequence with ``adapters`` runs now."""
        self._running[adapters] = self._running.get(adapters, 0) + 1

    def remove(self, adapters: AdapterSet) -> None:
        """A sequence with ``adapters`` runs no more."""
        self._running[adapters] -= 1
        if self._running[adapters] == 0:
            if adapters == next(iter(self._running)):
                self._begin()
            del self._running[adapters]

    def choose(self) -> AdapterSet:
        """The set of the next step."""
        if len(self._running) > 1 and self._is_over:
            self._running.move_to_end(next(iter(self._running)))
            self._begin()
        return next(iter(self._running), NO_ADAPTERS)

    def took(self, elapsed_s: float) -> None:
        """The set on turn has computed a step of ``elapsed_s`` seconds."""
        self._steps += 1
        self._spent_s += elapsed_s
        self._last_s = elapsed_s

    @property
    def _is_over(self) -> bool:
        """Whether another step, taken to last as long as the one before, is more than the turn has left."""
        if self._steps == 0:
            return False
        return self._steps >= MOST_STEPS or self._spent_s + self._last_s > self._round_s / len(self._running)

    def _begin(self) -> None:
        self._steps = 0
        self._spent_s = self._last_s = 0.0
