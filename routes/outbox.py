"""Bytes of one stream, from the task that makes them straight into the connection."""

from __future__ import annotations

import asyncio

from starlette.types import Send


class Outbox:
    """The way out of one stream. Owned by the event loop; one task puts, another one hands over the connection.

    Nothing is queued here: whoever puts sends, and waits where the connection does. A client that does not read
    so leaves what it was to read with the engine, whose ``EventStream`` bounds it.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._first = b""
        self._send: Send | None = None
        self._connected: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()
        self._sends = 0
        self._is_sending = False
        self._timer: asyncio.TimerHandle
        self.opened: asyncio.Future[None] = loop.create_future()
        """Done from the first ``put`` on: from there the answer is a stream."""

    async def put(self, blob: bytes) -> None:
        """Send ``blob``; an empty one only opens the stream. The first is kept until there is a connection."""
        if self._send is None:
            if not self.opened.done():
                self.opened.set_result(None)
                self._first = blob
                return
            await asyncio.shield(self._connected)
        if blob and self._send is not None:
            self._sends += 1
            self._is_sending = True
            await self._send({"type": "http.response.body", "body": blob, "more_body": True})
            self._is_sending = False

    def close(self) -> None:
        """No more will be put. Closing twice changes nothing."""
        if not self._closed.done():
            self._closed.set_result(None)

    async def connect(self, send: Send, *, patience_s: float) -> None:
        """Send through ``send`` from now on, and return once all is sent.

        Raises TimeoutError when one send takes longer than ``patience_s`` (or up to twice that: a look at the
        clock for each would cost more than the exact limit is worth).
        """
        async with asyncio.timeout(None) as limit:
            self._watch(limit, patience_s, seen=0)
            try:
                if self._first:
                    self._sends, self._is_sending = 1, True
                    await send({"type": "http.response.body", "body": self._first, "more_body": True})
                    self._first, self._is_sending = b"", False
                self._send = send
                self._connected.set_result(None)
                await self._closed
            finally:
                self._timer.cancel()

    def _watch(self, limit: asyncio.Timeout, patience_s: float, seen: int) -> None:
        """Look again in ``patience_s`` whether the send that is ``seen`` now is still not through."""
        loop = asyncio.get_running_loop()

        def look() -> None:
            if self._is_sending and self._sends == seen:
                limit.reschedule(loop.time())
            else:
                self._watch(limit, patience_s, self._sends)

        self._timer = loop.call_later(patience_s, look)
