"""How long threads that compute wait for each other before they sleep: long where they have the cores to themselves.

They meet some hundred times a step, and mostly wait for less than being woken takes: sleeping early costs up to a tenth
of the rate. Where somebody else wants the cores, a thread that waits awake takes them from the one it waits for, and
waiting long costs most of it (docs/design.md has figures). Which of the two it is, the kernel tells: it counts how
long threads have waited for a core.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.contention import Contention

PATIENT_US = 200
HASTY_US = 5
_CROWDED = 0.2
"""This part of the time that threads want is spent waiting for a core. With the server and 16 clients on the same two
cores it was 0.02 and at most 0.09, beside one more busy process 0.35 to 0.5, however they waited for each other."""
_WINDOW_S = 0.5
_LEAST_S = 0.1
"""Of running and waiting; in less, one odd wait would decide."""


class Patience:
    """Of one worker's threads. Owned by its engine thread."""

    def __init__(
        self,
        threads: int,
        set_us: Callable[[int], bool],
        *,
        observe: Callable[[int], Contention] = Contention,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``threads`` compute at the same time; ``set_us`` says whether anybody can be told."""
        self._threads = threads
        self._set_us = set_us
        self._observe = observe
        self._clock = clock
        self._us = PATIENT_US
        self._begin()
        # Whoever cannot see that it is crowded stays as hasty as the library is.
        self._is_heard = threads > 1 and self._contention.is_counted and set_us(self._us)

    def _begin(self) -> None:
        self._began_s = self._clock()
        self._contention = self._observe(self._threads)

    def after_step(self) -> None:
        """Look, each half second or so, how much the threads were kept waiting, and tell them how to wait."""
        if not self._is_heard or self._clock() - self._began_s < _WINDOW_S:
            return
        pressure = self._contention.pressure(_LEAST_S)
        if pressure is None:
            return
        us = HASTY_US if pressure > _CROWDED else PATIENT_US
        if us != self._us:
            self._us = us
            self._set_us(us)
        self._begin()
