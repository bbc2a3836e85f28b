"""Bytes of one stream, from whoever makes them straight into the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import Message, Send

from engine.errors import RequestTimeout

MAX_UNREAD_BYTES = 1024 * 1024


class Outbox:
    """The way out of one stream. Owned by the event loop.

    Whoever puts never waits. What the connection takes at once is written at once, in the turn of the loop that brought
    it; what it does not take waits here, bounded, for ``carry``, which sends it as fast as the client reads.
    """

    def __init__(
        self, start: Message, send: Send, send_body: Send, write: Callable[[bytes], bool] | None = None
    ) -> None:
        """``start`` is sent by ``send`` before all else, and what follows by ``send_body``, or by ``write`` where there
        is one and it takes it.
        """
        self._start = start
        self._send = send
        self._send_body = send_body
        self._write = write
        self._direct: Callable[[bytes], bool] | None = None
        """``write``, while nothing is before what it is given."""
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._has_started = False
        self._is_ended = False
        self._sends = 0
        self._is_sending = False
        self._wakeup: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._next_look: asyncio.TimerHandle | None = None
        self._next_ping: asyncio.TimerHandle | None = None
        self.is_open = False
        """From there the answer is a stream, whatever becomes of it."""

    def put(self, blob: bytes) -> None:
        """Send ``blob``; an empty one only opens the stream. Raises RequestTimeout where too much is unread."""
        if self._direct is not None and (not blob or self._direct(blob)):
            return
        if self._waiting_bytes > MAX_UNREAD_BYTES:
            raise RequestTimeout("the answer is read too slowly: too much of it waits unread")
        self._wait(blob)

    def end(self, blob: bytes) -> None:
        """Send the last, and say that it is."""
        self._is_ended = True
        self._end_pings()
        self._wait(blob)

    async def carry(self, *until: asyncio.Future[None]) -> None:
        """Send what waits, until any of ``until`` is done, and what waits then. Cancelling it leaves the rest unsent.

        Raises what sending raises.
        """
        for future in until:
            future.add_done_callback(self._wake)
        try:
            while True:
                while self.is_open and (self._waiting or not self._has_started):
                    await self._send_waiting()
                # Both looks in one turn of the loop: what was put before the end of whoever puts is sent.
                if any(future.done() for future in until):
                    return
                self._wakeup = self._loop.create_future()
                await self._wakeup
        finally:
            for future in until:
                future.remove_done_callback(self._wake)

    def watch(self, patience_s: float, give_up: Callable[[], object]) -> None:
        """Call ``give_up`` when one send takes longer than ``patience_s`` (or up to twice that: a look at the clock
        for each would cost more than the exact limit is worth).
        """
        seen = 0

        def look() -> None:
            nonlocal seen
            if self._is_sending and self._sends == seen:
                give_up()
                return
            seen = self._sends
            self._next_look = self._loop.call_later(patience_s, look)

        self._next_look = self._loop.call_later(patience_s, look)

    def ping(self, interval_s: float, blob: bytes) -> None:
        """Send ``blob`` each ``interval_s`` seconds from now on, unless something else is under way."""

        def send_ping() -> None:
            if self._has_started and not self._is_sending and not self._waiting:
                self.put(blob)
            self._next_ping = self._loop.call_later(interval_s, send_ping)

        self._next_ping = self._loop.call_later(interval_s, send_ping)

    def leave(self) -> None:
        """End the watch and the pings. Harmless when repeated."""
        self._end_pings()
        if self._next_look is not None:
            self._next_look.cancel()

    def _end_pings(self) -> None:
        if self._next_ping is not None:
            self._next_ping.cancel()

    def _wait(self, blob: bytes) -> None:
        self.is_open = True
        self._direct = None
        if blob or self._is_ended:
            self._waiting.append(blob)
            self._waiting_bytes += len(blob)
        self._wake()

    def _wake(self, _: object = None) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    async def _send_waiting(self) -> None:
        self._sends += 1
        self._is_sending = True
        try:
            if not self._has_started:
                await self._send(self._start)
                self._has_started = True
            blob, is_last = b"".join(self._waiting), self._is_ended
            self._waiting.clear()
            if blob or is_last:
                await self._send_body({"type": "http.response.body", "body": blob, "more_body": not is_last})
        finally:
            self._is_sending = False
        self._waiting_bytes -= len(blob)
        if not self._waiting and not self._is_ended:
            self._direct = self._write
