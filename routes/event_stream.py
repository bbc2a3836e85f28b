"""The HTTP side of a stream: server-sent events, pings, and the end of the work when the client goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, Final

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from engine.errors import NibbleError
from routes.connection import connection_of
from routes.disconnect import departure, forget, settle
from routes.outbox import Outbox
from routes.request_policy import RequestPolicy

Fill = Callable[[Outbox], Coroutine[Any, Any, None]]
"""Makes a stream, from its first ``put`` to its ``end``. What it raises before that is answered instead."""


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


_HEADERS: Final = tuple(EventSourceResponse(_nothing()).raw_headers)
_PING: Final = ServerSentEvent(comment="ping", sep="\n").encode()


class EventStream(Response):
    """Runs ``fill`` in a task of its own, sends what it puts, and ends it when the client goes.

    Headers and pings are sse-starlette's. Its response is not used: per chunk that takes a task's turn, a timer and a
    cancel scope, which is more than the chunk itself, and per stream a group of tasks. Streams run on while the server
    drains, until ``RunningRequests.end`` ends them with an error.
    """

    def __init__(
        self,
        fill: Fill,
        policy: RequestPolicy,
        headers: Mapping[str, str],
        render_failure: Callable[[NibbleError], Response],
    ) -> None:
        self._fill = fill
        self._policy = policy
        self._render_failure = render_failure
        self.status_code = 200
        self.background = None
        self.raw_headers = [*_HEADERS, *((name.encode(), value.encode()) for name, value in headers.items())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = connection_of(scope)
        start: Message = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        if connection is None:
            outbox = Outbox(start, send, send)
        else:
            outbox = Outbox(start, send, connection["send"], connection["write"])
        work = asyncio.create_task(self._fill(outbox))
        gone = departure(scope, receive)
        patience = asyncio.timeout(None)

        def give_up() -> None:
            work.cancel()
            patience.reschedule(asyncio.get_running_loop().time())
            if connection is not None:
                connection["drop"]()

        outbox.watch(self._policy.send_timeout_s, give_up)
        if self._policy.ping_s:
            outbox.ping(self._policy.ping_s, _PING)
        try:
            async with patience:
                await outbox.carry(work, gone)
            # Where the client does not read, or is gone, the answer stays unfinished, which drops the connection.
            if not gone.done() and not work.cancelled():
                work.result()
        except NibbleError as error:
            if not outbox.is_open:
                await self._render_failure(error)(scope, receive, send)
        except OSError:  # whoever is gone; and whoever does not read, which is a TimeoutError
            pass
        finally:
            outbox.leave()
            await forget(gone)
            await settle(work)
