"""HTTP that a cancel ends at once, wherever it stands: a look-up, a connection, or a server that says nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import httpx

from model_registry.pull.pull_error import PullCancelled

_POLL_S = 0.1
_Result = TypeVar("_Result")


class CancellableTransport(httpx.BaseTransport):
    """Owned by one thread, in which no event loop runs. Raises PullCancelled within a moment of ``cancel`` being set.

    A blocking read ends at its time-out alone, so what waits is a task on an event loop that runs only meanwhile.
    """

    def __init__(self, cancel: threading.Event) -> None:
        self._cancel = cancel
        # asyncio's own loop, whatever the process has made its default: this may be a thread beside uvloop's.
        self._loop = asyncio.SelectorEventLoop()
        # A client and no bare transport: it knows the proxies of the environment.
        self._client = httpx.AsyncClient(timeout=None, follow_redirects=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        # With the time-outs of the client that asks, which came along with the request.
        response = self.wait(self._client.send(request, stream=True))
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Body(self, response),
            extensions={
                name: value for name, value in response.extensions.items() if name != "network_stream"
            },
        )

    def close(self) -> None:
        with suppress(httpx.HTTPError, OSError):
            self._loop.run_until_complete(self._client.aclose())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def wait(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """What ``work`` comes to. Raises PullCancelled; then it is not under way any more."""
        return self._loop.run_until_complete(self._watched(work))

    def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` whatever is cancelled: it takes no time."""
        self._loop.run_until_complete(work)

    async def _watched(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_POLL_S)
                if self._cancel.is_set():
                    raise PullCancelled("the pull was cancelled: run the command again, and it goes on")
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})


class _Body(httpx.SyncByteStream):
    """The bytes of an answer as they come."""

    def __init__(self, transport: CancellableTransport, response: httpx.Response) -> None:
        self._transport = transport
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        pieces = self._response.aiter_raw()
        while (piece := self._transport.wait(_next(pieces))) is not None:
            yield piece

    def close(self) -> None:
        self._transport.finish(self._response.aclose())


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)
