"""What the routes are given by the composition root."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

from generation.engine_port import EnginePort
from model_registry.adapter_detail import AdapterDetail
from model_registry.amendment import Amendment
from model_registry.card import ModelCard
from model_registry.jobs.job import JobSnapshot
from model_registry.jobs.job_order import JobOrder
from model_registry.leftovers import Leftover
from model_registry.model_detail import ModelDetail
from model_registry.pruning import PrunedLeftover
from model_registry.removal import SideEffect
from routes.caller import CallersPort
from routes.day_usage import UsagePort
from routes.request_policy import RequestPolicy
from routes.running_requests import RunningRequests
from routes.telemetry import Telemetry


class LeasePort(Protocol):
    """A loaded model, held for one request. The real one is ``model_registry.lease.Lease``."""

    @property
    def card(self) -> ModelCard: ...

    @property
    def engine(self) -> EnginePort: ...


class RegistryPort(Protocol):
    """The registry as the routes see it. The real one is ``model_registry.registry.ModelRegistry``."""

    @property
    def is_ready(self) -> bool:
        """Whether some model has decoded a token and can take requests."""
        ...

    def cards(self) -> Sequence[ModelCard]: ...

    def card(self, model_id: str) -> ModelCard:
        """Raises ModelNotFound, whose message names the nearest known ids."""
        ...

    async def remove(self, model_id: str) -> tuple[SideEffect, ...]:
        """Delete a model's files. Returns what else has changed. Raises ModelNotFound, InvalidRequest and
        ModelProtected.
        """
        ...

    def details(self) -> Sequence[ModelDetail]:
        """All that is known of every model."""
        ...

    def detail(self, model_id: str, *, serving: bool = False) -> ModelDetail:
        """The same of one, or with ``serving`` of the twin that serves in its place. Raises ModelNotFound."""
        ...

    def adapter(self, name: str) -> AdapterDetail | None:
        """What is known of a model with an adapter; None for one without. Raises ModelNotFound."""
        ...

    async def load(self, model_id: str) -> None:
        """Load a model and wait for it; it goes on if nobody waits any more. Raises what ``lease`` raises."""
        ...

    async def unload(self, model_id: str, *, wait_s: float = 0.0, force: bool = False) -> None:
        """Unload a model. Raises ModelBusy for one that is still used after ``wait_s``, unless it is to be forced."""
        ...

    async def amend(self, model_id: str, amendment: Amendment) -> None:
        """Keep new words for a model. Raises ModelNotFound, InvalidRequest and ModelUnavailable."""
        ...

    def lease(self, model_id: str, *, adapters: Sequence[str] = ()) -> AbstractAsyncContextManager[LeasePort]:
        """Hold the model with the adapters of these names, loading what is needed.

        Raises errors of ``engine.errors``.
        """
        ...


class JobsPort(Protocol):
    """Long work in the background. The real one is ``model_registry.jobs.job_queue.JobQueue``."""

    def submit(self, order: JobOrder) -> JobSnapshot:
        """Raises QueueFull, and ModelUnavailable when the server stops."""
        ...

    def jobs(self) -> Sequence[JobSnapshot]:
        """The newest first."""
        ...

    def job(self, job_id: str) -> JobSnapshot:
        """Raises JobNotFound."""
        ...

    def watch(self, job_id: str) -> AsyncGenerator[JobSnapshot]:
        """The job as it is, then whenever it has changed, last when it is over. Raises JobNotFound."""
        ...

    def cancel(self, job_id: str) -> JobSnapshot:
        """Raises JobNotFound."""
        ...


class PruningPort(Protocol):
    """What nothing uses, found and removed; blocks. The real one is ``model_registry.pruning.Pruning``."""

    def find(self) -> Sequence[Leftover]:
        """Raises ModelUnavailable."""
        ...

    def remove(self, found: Iterable[Leftover]) -> Sequence[PrunedLeftover]: ...


@dataclass(slots=True)
class Services:
    """Everything a route uses that it does not own."""

    registry: RegistryPort
    jobs: JobsPort
    pruning: PruningPort
    callers: CallersPort
    telemetry: Telemetry
    usage: UsagePort
    policy: RequestPolicy
    """A reload replaces it."""
    render_metrics: Callable[[], tuple[bytes, str]]
    """The body of ``GET /metrics`` and its content type."""
    running: RunningRequests = field(default_factory=RunningRequests)
    """The server ends what still runs through this when its drain time is over."""

    @property
    def strict_policy(self) -> RequestPolicy:
        """That of an admin's words now, which are not ignored whatever the operator allows clients."""
        return replace(self.policy, strict=True)
