"""One piece of long work, from its place in the queue to its end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from model_registry.jobs.job_order import JobKindName, JobUnit
from model_registry.tune.tuning import TuningReport

JobState = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
ENDS: frozenset[JobState] = frozenset({"succeeded", "failed", "cancelled"})
_RATE_WINDOW_S = 10.0


class JobFailure(msgspec.Struct, frozen=True):
    """Why a job failed, and what mends it."""

    code: str
    message: str


class JobSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A job at one moment."""

    id: str
    object: Literal["job"] = "job"
    kind: JobKindName
    about: str
    """What it was asked for: an address, a path, or the id of a model."""
    state: JobState
    model: str | None
    """The id of the model that it is about or has brought; null where that is not known yet."""
    message: str
    """What it does now, or what came of it."""
    done: int
    total: int | None
    """What ``done`` will be at the end; null where nobody knows."""
    unit: JobUnit
    """Of ``done`` and ``total``. Work that has several pieces tells each from its beginning, in its own unit."""
    rate_per_s: float | None
    """Units a second, over the last ten; null where there is none to tell."""
    left_s: float | None
    """Seconds that it will take at that rate."""
    created: float
    """Unix seconds, as those that follow; null for what has not happened."""
    started: float | None
    ended: float | None
    error: JobFailure | None
    result: TuningReport | None
    """What a tuning has measured; null before its end, and for every other kind."""


@dataclass(slots=True)
class Job:
    """Owned by the event loop, through the queue."""

    kind: JobKindName
    about: str
    unit: JobUnit
    model: str | None = None
    order: object = None
    """What was ordered: two that are the same are one job."""
    clock: Callable[[], float] = time.monotonic
    id: str = field(default_factory=lambda: f"job-{secrets.token_hex(8)}")
    state: JobState = "queued"
    message: str = "waits for its turn"
    done: int = 0
    total: int | None = None
    error: JobFailure | None = None
    result: TuningReport | None = None
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    _seen: deque[tuple[float, int]] = field(default_factory=deque)
    """Times and figures of the last seconds, to tell the rate by."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the next change, which puts another in its place: take it before you look at what may change."""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_over(self) -> bool:
        return self.state in ENDS

    def begin(self) -> None:
        self.state, self.message, self.started = "running", "", time.time()
        self._change()

    def note(self, done: int, total: int | None) -> None:
        """Take a figure of its progress; one that comes after the end is none."""
        if self.is_over:
            return
        now = self.clock()
        if done < self.done:
            self._seen.clear()  # it had to begin anew
        self.done, self.total = done, total
        self._seen.append((now, done))
        while now - self._seen[0][0] > _RATE_WINDOW_S:
            self._seen.popleft()
        self._change()

    def say(self, message: str) -> None:
        if not self.is_over:
            self.message = message
            self._change()

    def turn_to(self, message: str, unit: JobUnit) -> None:
        """Another piece of the work begins, whose figures are its own."""
        if not self.is_over:
            self.message, self.unit, self.done, self.total = message, unit, 0, None
            self._seen.clear()
            self._change()

    def be_cancelled(self) -> None:
        """It was told to end, and has not ended yet."""
        self.state = "cancelling"
        self._change()

    def end(self, state: JobState, message: str, error: JobFailure | None = None) -> None:
        self.state, self.message, self.error, self.ended = state, message, error, time.time()
        self._seen.clear()
        # It may hold a long text, and nothing is compared with what is over.
        self.order = None
        self.over.set()
        self._change()

    def _change(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def snapshot(self) -> JobSnapshot:
        rate = self._rate()
        is_foreseen = rate and self.total is not None and not self.is_over
        return JobSnapshot(
            id=self.id,
            kind=self.kind,
            about=self.about,
            state=self.state,
            model=self.model,
            message=self.message,
            done=self.done,
            total=self.total,
            unit=self.unit,
            rate_per_s=rate,
            left_s=max(0, self.total - self.done) / rate if is_foreseen and rate and self.total else None,
            created=self.created,
            started=self.started,
            ended=self.ended,
            error=self.error,
            result=self.result,
        )

    def _rate(self) -> float | None:
        if len(self._seen) < 2:
            return None
        (began, at_first), (_, at_last) = self._seen[0], self._seen[-1]
        # Until now, not until the last figure: work that stalls slows down.
        passed_s = self.clock() - began
        return (at_last - at_first) / passed_s if passed_s > 0 and at_last > at_first else None
