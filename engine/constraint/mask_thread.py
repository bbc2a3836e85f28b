"""A thread that computes masks while the model computes logits: both leave the interpreter's lock alone."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class MaskThread:
    """Runs jobs one after another. Started with the first one; ends with the process, or by ``close``."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, job: Callable[[], None]) -> None:
        """Do ``job`` soon. It must not raise."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="masks", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def close(self) -> None:
        """Finish what was asked for, and end the thread."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
