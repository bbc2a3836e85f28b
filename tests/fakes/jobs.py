"""Jobs that never run: a test says what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from engine.errors import JobNotFound, NibbleError
from model_registry.jobs.job import Job, JobSnapshot
from model_registry.jobs.job_kinds import JOB_KINDS
from model_registry.jobs.job_order import JobOrder


class FakeJobs:
    """Satisfies ``routes.services.JobsPort``. Owned by the event loop of the test."""

    def __init__(self) -> None:
        self.made: dict[str, Job] = {}
        self.orders: list[JobOrder] = []
        self.refusal: NibbleError | None = None
        self.watchers = 0
        self.first_watcher = asyncio.Event()

    def submit(self, order: JobOrder) -> JobSnapshot:
        if self.refusal is not None:
            raise self.refusal
        kind = JOB_KINDS[type(order)]
        job = Job(kind.name, kind.about(order), kind.unit, model=kind.model(order))
        self.made[job.id] = job
        self.orders.append(order)
        return job.snapshot()

    def jobs(self) -> list[JobSnapshot]:
        return [job.snapshot() for job in self.made.values()]

    def job(self, job_id: str) -> JobSnapshot:
        return self._find(job_id).snapshot()

    async def watch(self, job_id: str) -> AsyncGenerator[JobSnapshot]:
        job = self._find(job_id)
        self.watchers += 1
        self.first_watcher.set()
        try:
            while True:
                changed = job.changed
                yield job.snapshot()
                if job.is_over:
                    return
                await changed.wait()
        finally:
            self.watchers -= 1

    def cancel(self, job_id: str) -> JobSnapshot:
        job = self._find(job_id)
        job.end("cancelled", "cancelled before it began")
        return job.snapshot()

    def _find(self, job_id: str) -> Job:
        if job_id not in self.made:
            raise JobNotFound(f"There is no job '{job_id}'.")
        return self.made[job_id]
