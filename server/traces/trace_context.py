"""Which trace a request belongs to, as its client says in W3C's ``traceparent``."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass

from opentelemetry import context, propagate
from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a request came, and where to."""

    began_ns: int
    """Since the epoch."""
    host: str | None
    port: int | None


ARRIVAL: ContextVar[Arrival | None] = ContextVar("nibble_arrival", default=None)


class TraceContext:
    """A layer of the app: makes the client's trace the current one. What cannot be read is as if it were not there."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host, port = scope.get("server") or (None, None)
        arrival = ARRIVAL.set(Arrival(time.time_ns(), host, port))
        token = context.attach(propagate.extract(headers))
        try:
            await self._app(scope, receive, send)
        finally:
            context.detach(token)
            ARRIVAL.reset(arrival)
