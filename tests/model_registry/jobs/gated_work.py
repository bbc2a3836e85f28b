"""Jobs whose works wait at gates that a test opens, in threads as real ones do."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_registry.config import RegistryConfig
from model_registry.jobs.job_kinds import JobKind
from model_registry.jobs.job_order import ImportOrder, JobOrder, PullOrder, VerifyOrder
from model_registry.jobs.job_queue import JobQueue
from model_registry.jobs.job_report import JobCancelled, JobReport
from model_registry.jobs.workshop import Workshop

PATIENCE_S = 60.0


@dataclass
class GatedWork:
    """``begun`` tells what has begun; ``gates`` let it end, well or with ``errors``."""

    begun: list[str] = field(default_factory=list)
    gates: dict[str, threading.Event] = field(default_factory=dict)
    errors: dict[str, BaseException] = field(default_factory=dict)
    reports: dict[str, JobReport] = field(default_factory=dict)
    data_dirs: list[str] = field(default_factory=list)
    """Of the configuration that each went by."""
    is_deaf: bool = False
    """Whether it takes no notice of being cancelled."""
    most_at_once: int = 0
    _running: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def gate(self, source: str) -> threading.Event:
        return self.gates.setdefault(source, threading.Event())

    def work(self, order: Any, report: JobReport, workshop: Workshop) -> str:
        source: str = order.source
        with self._lock:
            self.begun.append(source)
            self.reports[source] = report
            self.data_dirs.append(workshop.config.data_dir.name)
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        try:
            while not self.gate(source).wait(0.01):
                if report.cancel.is_set() and not self.is_deaf:
                    raise JobCancelled
            if source in self.errors:
                raise self.errors[source]
            return f"model-of-{source}"
        finally:
            with self._lock:
                self._running -= 1

    def queue(self, **options: Any) -> JobQueue:
        kinds: dict[type[JobOrder], JobKind] = {
            PullOrder: JobKind(name="pull", work=self.work, about=lambda order: order.source),
            ImportOrder: JobKind(name="import", work=self.work, about=lambda order: order.path),
            VerifyOrder: JobKind(name="verify", work=self.work, about=lambda order: order.model),
        }
        registry: Any = None  # gated work asks nothing of it
        start_engine: Any = None
        workshop = Workshop(registry, RegistryConfig(data_dir=Path("before")), start_engine)
        return JobQueue(workshop, kinds, **options)
