"""What a job's work is given: how it tells its progress, and how it learns that it is to end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from model_registry.jobs.job_order import JobUnit
from model_registry.tune.tuning import TuningReport

_LEAST_GAP_S = 0.1
"""Between two figures that cross into the event loop: a download brings thousands a second."""
Note = Callable[[int, int | None], None]
Result = TypeVar("Result")


class JobCancelled(Exception):
    """The work has ended because it was told to."""


class JobReport:
    """Used by the thread that does the work, except for ``interrupt``, which is the event loop's."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        note: Note,
        say: Callable[[str], None],
        turn_to: Callable[[str, JobUnit], None],
    ) -> None:
        """``note``, ``say`` and ``turn_to`` are called on ``loop``."""
        self.cancel = threading.Event()
        """Set when the work is to end; for what can watch an event."""
        self.latest: tuple[int, int | None] | None = None
        self.conclusion = ""
        """What came of it, in words; empty where that is that the model works."""
        self.result: TuningReport | None = None
        self._loop = loop
        self._note = note
        self._say = say
        self._turn_to = turn_to
        self._noted_at = 0.0
        self._begun: set[concurrent.futures.Future[Any]] = set()

    def progress(self, done: int, total: int | None = None) -> None:
        """``done`` of ``total``, in the unit of the job. Raises JobCancelled, so that work which knows of no cancel
        ends here."""
        if self.cancel.is_set():
            raise JobCancelled
        self.latest = done, total
        now = time.monotonic()
        if now - self._noted_at >= _LEAST_GAP_S:
            self._noted_at = now
            self.call(self._note, done, total)

    def say(self, message: str) -> None:
        """What is being done now, in a few words."""
        self.call(self._say, message)

    def turn_to(self, message: str, unit: JobUnit) -> None:
        """Another piece of the work begins, as ``message`` tells: its progress is counted from 0, in ``unit``."""
        self.latest = None
        self._noted_at = 0.0
        self.call(self._turn_to, message, unit)

    def conclude(self, conclusion: str, result: TuningReport | None = None) -> None:
        """What is told of the work when it has ended well."""
        self.conclusion, self.result = conclusion, result

    def sleep(self, seconds: float) -> None:
        """Raises JobCancelled."""
        if self.cancel.wait(seconds):
            raise JobCancelled

    def begin(self, work: Coroutine[Any, Any, Result]) -> concurrent.futures.Future[Result]:
        """Have ``work`` done on the event loop. Cancelling the job cancels it."""
        begun = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._begun.add(begun)
        begun.add_done_callback(self._begun.discard)
        if self.cancel.is_set():
            begun.cancel()
        return begun

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What ``work`` comes to on the event loop. Raises JobCancelled."""
        try:
            return self.begin(work).result()
        except concurrent.futures.CancelledError:
            raise JobCancelled from None

    def call(self, function: Callable[..., None], *arguments: object) -> None:
        """Call ``function`` on the event loop, soon."""
        # The loop may have ended before the thread, which then has nobody to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def interrupt(self) -> None:
        """Tell the work to end."""
        self.cancel.set()
        for begun in tuple(self._begun):
            begun.cancel()
