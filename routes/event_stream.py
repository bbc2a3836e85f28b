"""The HTTP side of a stream: server-sent events, pings, and the end of the work when the client goes."""

from __future__ import annotations

import asyncio
import logging

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus, SendTimeoutError
from starlette.types import Receive, Scope, Send

from routes.outbox import Outbox
from routes.services import RequestPolicy

# By default sse-starlette cancels every stream as soon as uvicorn is told to stop. Ours run on until they
# are done, or until the server's drain time is over and ``RunningRequests.end`` ends them with an error.
AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]

# It logs each chunk, and so what users read, at DEBUG.
logging.getLogger("sse_starlette").setLevel(logging.INFO)


def _ping() -> ServerSentEvent:
    return ServerSentEvent(comment="ping", sep="\n")


class EventStream(EventSourceResponse):
    """Sends what comes out of ``outbox``, and owns ``work``, the task that fills it."""

    def __init__(
        self, outbox: Outbox, work: asyncio.Task[None], policy: RequestPolicy, headers: dict[str, str]
    ) -> None:
        super().__init__(
            outbox,
            headers=headers,
            ping=policy.ping_s,
            ping_message_factory=_ping,
            sep="\n",
            send_timeout=policy.send_timeout_s,
        )
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except (SendTimeoutError, OSError):
            # The client does not read, or is gone: returning with the answer unfinished drops the connection.
            pass
        finally:
            self._work.cancel()
            await asyncio.wait({self._work})
