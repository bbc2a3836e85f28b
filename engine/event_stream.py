"""What one request has been told and has not read yet. Owned by the event loop; nothing here locks or blocks."""

from __future__ import annotations

import asyncio

from engine.errors import NibbleError, RequestTimeout
from engine.events import Accepted, Event, Piece

MAX_UNREAD_BYTES = 256 * 1024
_EVENT_BYTES = 64


class EventStream:
    """Events of one request, from the frame that brought them to the task that answers.

    Events that arrive between two reads are read together, so one engine step makes one chunk.
    """

    __slots__ = ("_error", "_loop", "_unread", "_unread_bytes", "_waiter", "choices_left")

    def __init__(self, choices: int) -> None:
        self.choices_left = choices
        self._unread: list[Event] = []
        self._unread_bytes = 0
        self._error: NibbleError | None = None
        self._waiter: asyncio.Future[None] | None = None
        # Kept, since Python 3.11 asks the system for its process each time that it looks it up.
        self._loop = asyncio.get_running_loop()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be pushed: every choice has ended, or the request failed."""
        return self.choices_left == 0 or self._error is not None

    def push(self, event: Accepted | Piece) -> bool:
        """Add an event; nothing once it is over. Whether this ends the stream as one that is read too slowly: its
        reader fails, since memory is not for such.
        """
        if self.is_over:
            return False
        self._unread.append(event)
        if isinstance(event, Piece):
            self._unread_bytes += _EVENT_BYTES + len(event.text)
            if event.logprobs:
                self._unread_bytes += _EVENT_BYTES * len(event.logprobs) * (1 + len(event.logprobs[0].top))
            if event.finish is not None:
                self.choices_left -= 1
            elif self._unread_bytes > MAX_UNREAD_BYTES:
                self._error = RequestTimeout("the answer is read too slowly: too much of it waits unread")
        self._wake()
        return self._error is not None

    def fail(self, error: NibbleError) -> None:
        """End the stream with ``error``, behind what is unread. The first failure stands."""
        if not self.is_over:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self) -> list[Event]:
        """What has come since the last read; empty once all choices have ended. Raises the request's failure."""
        if not self._unread and not self.is_over:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._unread:
            unread, self._unread = self._unread, []
            self._unread_bytes = 0
            return unread
        if self._error is not None:
            raise self._error
        return []
