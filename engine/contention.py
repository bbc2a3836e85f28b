"""How long this process has waited for a processor that somebody else had: what makes a measurement a bad one.

Linux counts it for each thread (docs.kernel.org/scheduler/sched-stats.html, /proc/<pid>/schedstat: the second figure,
in nanoseconds, behind the time that it ran). Other systems do not tell, and then nothing is claimed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

_TASKS = Path("/proc/self/task")


class Contention:
    """From its making on. Threads that end meanwhile are forgotten with their waits. Owned by one thread."""

    def __init__(
        self, threads: int, tasks: Path = _TASKS, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """``threads`` compute at the same time."""
        self._threads = threads
        self._tasks = tasks
        self._clock = clock
        self._began_s = clock()
        self._ran_s, self._waited_s = self._times_s()

    @property
    def is_counted(self) -> bool:
        """Whether this system tells."""
        return self._waited_s is not None

    def share(self) -> float | None:
        """The part of their time that the threads have waited, 0 to 1; None where nobody counts."""
        (_, waited_s), elapsed_s = self._times_s(), self._clock() - self._began_s
        if waited_s is None or self._waited_s is None or elapsed_s <= 0:
            return None
        return min(1.0, max(0.0, waited_s - self._waited_s) / (elapsed_s * self._threads))

    def pressure(self, least_s: float) -> float | None:
        """The part that waiting was of waiting and running, 0 to 1: being idle is neither.

        None before those are ``least_s`` seconds together, and where nobody counts.
        """
        ran_s, waited_s = self._times_s()
        if ran_s is None or waited_s is None or self._ran_s is None or self._waited_s is None:
            return None
        ran_s, waited_s = max(0.0, ran_s - self._ran_s), max(0.0, waited_s - self._waited_s)
        together_s = ran_s + waited_s
        return waited_s / together_s if together_s > 0 and together_s >= least_s else None

    def _times_s(self) -> tuple[float | None, float | None]:
        """Seconds that the threads have run, and waited."""
        ran_ns, waited_ns = [], []
        for task in self._tasks.glob("*/schedstat"):
            try:
                ran, waited = task.read_text().split()[:2]
                ran_ns.append(int(ran))
                waited_ns.append(int(waited))
            except (OSError, ValueError):
                continue  # it has just ended
        return (sum(ran_ns) / 1e9, sum(waited_ns) / 1e9) if waited_ns else (None, None)
