"""How long this process has waited for a processor that somebody else had: what makes a measurement a bad one.

Linux counts it for each thread (docs.kernel.org/scheduler/sched-stats.html, /proc/<pid>/schedstat: the second figure,
in nanoseconds). Other systems do not tell, and then nothing is claimed.
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
        self._waited_s = self._waits_s()

    def share(self) -> float | None:
        """The part of their time that the threads have waited, 0 to 1; None where nobody counts."""
        waited_s, elapsed_s = self._waits_s(), self._clock() - self._began_s
        if waited_s is None or self._waited_s is None or elapsed_s <= 0:
            return None
        return min(1.0, max(0.0, waited_s - self._waited_s) / (elapsed_s * self._threads))

    def _waits_s(self) -> float | None:
        waits_ns = []
        for task in self._tasks.glob("*/schedstat"):
            try:
                waits_ns.append(int(task.read_text().split()[1]))
            except (OSError, ValueError, IndexError):
                continue  # it has just ended
        return sum(waits_ns) / 1e9 if waits_ns else None
