"""Bytes of one stream, from the task that makes them straight into the connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from starlette.types import Message, Send


class Outbox:
    """The way out of one stream. Owned by the event loop; used by one task, but for the pings.

    Nothing is queued here: whoever puts sends, and waits where the connection does. A client that does not read
    so leaves what it was to read with the engine, whose ``EventStream`` bounds it.
    """

    def __init__(self, start: Message, send: Send, send_body: Send) -> None:
        """``start`` is sent by ``send`` before all else, and what follows by ``send_body``."""
        self._start = start
        self._send = send
        self._send_body = send_body
        self._sends = 0
        self._under_way = 0
        self._next_look: asyncio.TimerHandle | None = None
        self._next_ping: asyncio.TimerHandle | None = None
        self._ping: asyncio.Task[None] | None = None
        self.is_open = False
        """From there the answer is a stream, whatever becomes of it."""

    async def put(self, blob: bytes) -> None:
        """Send ``blob``; an empty one only opens the stream."""
        if not self.is_open:
            self.is_open = True
            await self._send(self._start)
        if blob:
            await self._send_part(blob, more_body=True)

    async def end(self, blob: bytes) -> None:
        """Send the last, and say that it is."""
        await self.put(b"")
        self._end_pings()
        await self._send_part(blob, more_body=False)

    def watch(self, patience_s: float, give_up: Callable[[], object]) -> None:
        """Call ``give_up`` when one send takes longer than ``patience_s`` (or up to twice that: a look at the clock
        for each would cost more than the exact limit is worth).
        """
        loop, seen = asyncio.get_running_loop(), 0

        def look() -> None:
            nonlocal seen
            if self._under_way and self._sends == seen:
                give_up()
                return
            seen = self._sends
            self._next_look = loop.call_later(patience_s, look)

        self._next_look = loop.call_later(patience_s, look)

    def ping(self, interval_s: float, blob: bytes) -> None:
        """Send ``blob`` each ``interval_s`` seconds from now on, unless something else is under way."""

        def send_ping() -> None:
            if self.is_open and not self._under_way:
                self._ping = asyncio.create_task(self._send_ping(blob))
            self._next_ping = loop.call_later(interval_s, send_ping)

        loop = asyncio.get_running_loop()
        self._next_ping = loop.call_later(interval_s, send_ping)

    def leave(self) -> None:
        """End the watch and the pings. Harmless when repeated."""
        self._end_pings()
        if self._next_look is not None:
            self._next_look.cancel()

    def _end_pings(self) -> None:
        if self._next_ping is not None:
            self._next_ping.cancel()
        if self._ping is not None:
            self._ping.cancel()

    async def _send_ping(self, blob: bytes) -> None:
        with contextlib.suppress(OSError):  # whoever is gone is noticed elsewhere
            await self._send_part(blob, more_body=True)

    async def _send_part(self, blob: bytes, *, more_body: bool) -> None:
        self._sends += 1
        self._under_way += 1
        try:
            await self._send_body({"type": "http.response.body", "body": blob, "more_body": more_body})
        finally:
            self._under_way -= 1
