"""All jobs of a server: so many at a time, the others in a queue, and those that ended for a while."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from engine.errors import InternalError, JobNotFound, ModelUnavailable, NibbleError, QueueFull
from model_registry.config import RegistryConfig
from model_registry.jobs.job import Job, JobFailure, JobSnapshot
from model_registry.jobs.job_kinds import JOB_KINDS, JobKind
from model_registry.jobs.job_order import JobOrder
from model_registry.jobs.job_report import JobCancelled, JobReport
from model_registry.jobs.workshop import Workshop
from model_registry.pull.pull_error import PullCancelled, PullError
from model_registry.quantize.quantization_cancelled import QuantizationCancelled
from model_registry.store.store_error import StoreError

_logger = logging.getLogger("nibble.jobs")
_AT_ONCE = 2
"""Each may load a model to try it out, and all share one network and one disk."""
_WAITING = 32
_KEPT = 64
_KEPT_S = 24 * 3600.0
_LEAST_GAP_S = 0.2
"""Between two things that are told of a job to one who watches it."""
_END_S = 5.0
"""How long works get to end when the server does; a download ends at its next piece."""
_CANCELS = (JobCancelled, PullCancelled, QuantizationCancelled, asyncio.CancelledError)
_CODES: Mapping[type[Exception], str] = {PullError: "pull_failed", StoreError: "store_failed"}


class JobQueue:
    """Owned by the event loop. Each job's work runs in a thread of its own, which talks through a ``JobReport``."""

    def __init__(
        self,
        workshop: Workshop,
        kinds: Mapping[type[JobOrder], JobKind] = JOB_KINDS,
        *,
        at_once: int = _AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workshop = workshop
        self._kinds = kinds
        self._at_once = at_once
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        """Oldest first."""
        self._waiting: list[tuple[Job, JobOrder]] = []
        self._running: dict[str, JobReport] = {}
        self._is_closed = False

    def reconfigure(self, config: RegistryConfig) -> None:
        """Have works go by ``config`` that begin from now on."""
        self._workshop = replace(self._workshop, config=config)

    def submit(self, order: JobOrder) -> JobSnapshot:
        """Begin what is ordered, now or when its turn comes. One that is under way already is not begun twice.

        Raises QueueFull, and ModelUnavailable when the server stops.
        """
        if self._is_closed:
            raise ModelUnavailable("the server is shutting down", retry_after_s=5.0)
        kind = self._kinds[type(order)]
        for known in self._jobs.values():
            if known.order == order and known.state in ("queued", "running"):
                return known.snapshot()
        if len(self._waiting) >= _WAITING:
            raise QueueFull(
                f"{len(self._waiting)} jobs wait already: wait for them, or cancel some", retry_after_s=30.0
            )
        about = kind.about(order)
        job = Job(kind.name, about, kind.unit, model=kind.model(order), order=order, clock=self._clock)
        self._forget_old()
        self._jobs[job.id] = job
        self._waiting.append((job, order))
        _logger.info("%s: %s %s", job.id, job.kind, about)
        self._begin_next()
        return job.snapshot()

    def jobs(self) -> list[JobSnapshot]:
        """All that are known, the newest first."""
        self._forget_old()
        return [job.snapshot() for job in reversed(self._jobs.values())]

    def job(self, job_id: str) -> JobSnapshot:
        """Raises JobNotFound."""
        return self._find(job_id).snapshot()

    async def watch(self, job_id: str) -> AsyncGenerator[JobSnapshot]:
        """The job as it is now, then whenever it has changed, last when it is over. Raises JobNotFound."""
        job = self._find(job_id)
        while True:
            changed = job.changed
            yield job.snapshot()
            if job.is_over:
                return
            await changed.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LEAST_GAP_S):
                    await job.over.wait()

    def cancel(self, job_id: str) -> JobSnapshot:
        """End a job: at once where it waits, else as soon as its work notices. Raises JobNotFound."""
        job = self._find(job_id)
        if report := self._running.get(job.id):
            job.be_cancelled()
            report.interrupt()
        elif not job.is_over:
            self._waiting = [entry for entry in self._waiting if entry[0] is not job]
            job.end("cancelled", "cancelled before it began")
        return job.snapshot()

    async def stop(self) -> None:
        """Cancel all jobs, and wait for a while until they have ended. Harmless when repeated."""
        self._is_closed = True
        unfinished = [job for job in self._jobs.values() if not job.is_over]
        for job in unfinished:
            self.cancel(job.id)
        ends = [asyncio.ensure_future(job.over.wait()) for job in unfinished]
        if ends:
            _, late = await asyncio.wait(ends, timeout=_END_S)
            for end in late:
                end.cancel()
        for job in unfinished:
            if not job.is_over:
                # Its thread is a daemon: the end of the process ends it, as a kill would.
                _logger.warning("%s did not end in time", job.id)
                job.end("cancelled", "the server has stopped")

    def _find(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            raise JobNotFound(f"job '{job_id[:100]}' does not exist, or ended long ago: list them")
        return job

    def _begin_next(self) -> None:
        while self._waiting and len(self._running) < self._at_once and not self._is_closed:
            job, order = self._waiting.pop(0)
            report = JobReport(asyncio.get_running_loop(), job.note, job.say, job.turn_to)
            self._running[job.id] = report
            job.begin()
            work = partial(self._kinds[type(order)].work, order, report, self._workshop)
            # Not a pool's thread, which the end of the process would wait for.
            threading.Thread(target=self._work, args=(job, report, work), name=job.id, daemon=True).start()

    def _work(self, job: Job, report: JobReport, work: Callable[[], str]) -> None:
        """Runs in the job's thread, to its end."""
        try:
            model_id = work()
        except BaseException as error:
            report.call(self._failed, job, report, error)
        else:
            report.call(self._succeeded, job, report, model_id)

    def _succeeded(self, job: Job, report: JobReport, model_id: str) -> None:
        if job.is_over:
            return
        if report.latest is not None:
            job.note(*report.latest)
        job.model = model_id
        self._end(job)
        job.result = report.result
        job.end("succeeded", report.conclusion or f"{model_id} works")

    def _failed(self, job: Job, report: JobReport, error: BaseException) -> None:
        if job.is_over:
            return
        if report.latest is not None:
            job.note(*report.latest)
        self._end(job)
        if report.cancel.is_set() and isinstance(error, _CANCELS):
            job.end("cancelled", "cancelled; ask for it again, and it goes on where that is possible")
            return
        failure = _failure_of(error)
        if failure.code == InternalError.kind:
            _logger.error("%s failed by a defect", job.id, exc_info=error)
        else:
            _logger.warning("%s failed: %s", job.id, failure.message)
        job.end("failed", failure.message, failure)

    def _end(self, job: Job) -> None:
        del self._running[job.id]
        # Not from within, so that whoever waits for this one's end sees it before the next one's beginning.
        asyncio.get_running_loop().call_soon(self._begin_next)

    def _forget_old(self) -> None:
        over = [job for job in self._jobs.values() if job.is_over]
        latest = time.time() - _KEPT_S
        for place, job in enumerate(over):
            if len(over) - place > _KEPT or (job.ended or 0) < latest:
                del self._jobs[job.id]


def _failure_of(error: BaseException) -> JobFailure:
    if isinstance(error, NibbleError):
        return JobFailure(error.kind, error.message)
    for known, code in _CODES.items():
        if isinstance(error, known):
            return JobFailure(code, str(error))
    return JobFailure(InternalError.kind, "the server has a defect; its log tells more")
