"""The HTTP side of a stream: server-sent events, pings, and the end of the work when the client goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from routes.disconnect import outstays
from routes.outbox import Outbox
from routes.request_policy import RequestPolicy
from routes.work import settle

# It logs each chunk, and so what users read, at DEBUG.
logging.getLogger("sse_starlette").setLevel(logging.INFO)

DIRECT_SEND = "nibble.direct_send"
"""The ASGI extension by which a server gives its own ``send``, as it is below every middleware: what they do concerns
the start of an answer, and each chunk of a stream would pass through half a dozen of them."""


def _ping() -> ServerSentEvent:
    return ServerSentEvent(comment="ping", sep="\n")


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


class EventStream(EventSourceResponse):
    """Gives ``outbox`` the connection, and owns ``work``, the task that fills it.

    Headers and pings are sse-starlette's. Its loop over the body is not used: per chunk that takes a task's turn, a
    timer and a cancel scope, which is more than the chunk itself. Nor are its watches over the client and the
    process, whose scopes cost more than all else that a stream begins with: a client that leaves is noticed as
    everywhere here, and streams run on while the server drains, until ``RunningRequests.end`` ends them with an error.
    """

    def __init__(
        self, outbox: Outbox, work: asyncio.Task[None], policy: RequestPolicy, headers: dict[str, str]
    ) -> None:
        super().__init__(
            _nothing(),
            headers=headers,
            ping=policy.ping_s,
            ping_message_factory=_ping,
            sep="\n",
            send_timeout=policy.send_timeout_s,
        )
        self._outbox = outbox
        self._work = work
        self._send_patience_s = policy.send_timeout_s
        self._send_chunk: Send | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send_chunk = scope.get("extensions", {}).get(DIRECT_SEND, {}).get("send", send)
        parts = [asyncio.create_task(self._stream_response(send))]
        if self.ping_interval:
            parts.append(asyncio.create_task(self._ping(send)))
        try:
            if await outstays(receive, parts):
                for part in parts:
                    if part.done():
                        part.result()
        except (SendTimeoutError, TimeoutError, OSError):
            # The client does not read, or is gone: returning with the answer unfinished drops the connection.
            pass
        finally:
            await settle(*parts, self._work)

    async def _stream_response(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await self._outbox.connect(self._send_chunk or send, patience_s=self._send_patience_s)
        self.active = False
        await send({"type": "http.response.body", "body": b"", "more_body": False})
