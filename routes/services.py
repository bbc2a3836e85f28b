"""What the routes are given by the composition root."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from generation.engine_port import EnginePort
from model_registry.card import ModelCard
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

    def lease(self, model_id: str) -> AbstractAsyncContextManager[LeasePort]:
        """Hold the model, loading it first if need be. Raises errors of ``engine.errors``."""
        ...


@dataclass(frozen=True, slots=True)
class RequestPolicy:
    """What the operator allows one request."""

    strict: bool = True
    """Unknown fields are refused; otherwise they are logged and named in a response header."""
    max_body_bytes: int = 4 * 1024 * 1024
    request_timeout_s: float = 600.0
    """From the end of the request's body to the end of the answer, loading and queueing included."""
    ping_s: float = 15.0
    """Silence on a stream after which a comment is sent; 0 sends none."""
    body_timeout_s: float = 60.0
    send_timeout_s: float = 60.0
    """How long one send to a client that does not read may take before its connection is dropped."""
    unread_bytes: int = 256 * 1024
    """How much of a stream is kept for a client that reads too slowly before its request is ended."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a route uses that it does not own."""

    registry: RegistryPort
    telemetry: Telemetry
    policy: RequestPolicy
    render_metrics: Callable[[], tuple[bytes, str]]
    """The body of ``GET /metrics`` and its content type."""
    running: RunningRequests = field(default_factory=RunningRequests)
    """The server ends what still runs through this when its drain time is over."""
