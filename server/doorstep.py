"""What stands before the app while that is imported: it says that the process lives, and has all else wait a moment."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.middleware import http_date, request_id_of
from server.refusal import refuse

_BODY: Final = b'{"status":"ok"}'
_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_BODY)).encode()),
)


class Doorstep:
    """An ASGI app around another, which may come when requests do already. Owned by the event loop.

    The server's own lifespan begins with this and ends with the other's, whose connections are closed by then.
    """

    def __init__(self) -> None:
        self._inside: ASGIApp | None = None
        self._is_decided = asyncio.Event()
        self._lifespan = AsyncExitStack()

    async def open(self, app: ASGIApp, lifespan: AbstractAsyncContextManager[None]) -> None:
        """Let all requests in to ``app``, those first that wait. Raises what its ``lifespan`` raises."""
        await self._lifespan.enter_async_context(lifespan)
        self._inside = app
        self._is_decided.set()

    def shut(self) -> None:
        """Nothing will be inside: refuse who waits. Does nothing where it is open."""
        self._is_decided.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._inside is None:
            if scope["type"] == "lifespan":
                await self._live(receive, send)
                return
            if scope["path"] == "/health" and scope["method"] == "GET":
                await _tell_health(scope, send)
                return
            await self._is_decided.wait()
        if self._inside is None:
            await refuse(send, 503, "model_unavailable", "The server cannot start; its log tells why.")
            return
        await self._inside(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._lifespan.aclose()
        await send({"type": "lifespan.shutdown.complete"})


async def _tell_health(scope: Scope, send: Send) -> None:
    """As ``routes.health`` does, with the headers of ``RequestObserver``. No guard is asked: it tells nothing."""
    own = ((b"x-request-id", request_id_of(scope)), (b"date", http_date(int(time.time()))))
    start: Message = {"type": "http.response.start", "status": 200, "headers": [*_HEADERS, *own]}
    await send(start)
    await send({"type": "http.response.body", "body": _BODY})
