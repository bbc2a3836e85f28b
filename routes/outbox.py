"""Bytes of one stream on their way from the task that makes them to the one that sends them."""

from __future__ import annotations

import asyncio

from routes.http_errors import ReaderTooSlow


class Outbox:
    """A bounded buffer. Owned by the event loop; one task puts, one iterates.

    A client that lags gets several engine steps in one send. One that lags by more than ``limit_bytes``
    loses its request, because the engine's place is worth more than its patience.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._is_closed = False
        self._waiter: asyncio.Future[None] | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done from the first ``put`` on: from there the answer is a stream."""

    @property
    def is_filling(self) -> bool:
        """Enough waits that the one who puts should let the one who sends run first."""
        return self._size * 4 > self._limit_bytes

    def put(self, blob: bytes) -> None:
        """Add ``blob``; an empty one only opens the stream. Raises ReaderTooSlow when too much is unread."""
        if not self.opened.done():
            self.opened.set_result(None)
        if not blob:
            return
        # A blob over the limit is no fault of the reader's, as long as nothing waits before it.
        if self._size and self._size + len(blob) > self._limit_bytes:
            raise ReaderTooSlow(f"The client left {self._size} bytes of the stream unread.")
        self._append(blob)

    def close(self, last: bytes = b"") -> None:
        """End the stream, with ``last`` whatever the limit. Closing twice changes nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._append(last)

    def __aiter__(self) -> Outbox:
        return self

    async def __anext__(self) -> bytes:
        while not self._size:
            if self._is_closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        blob = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return blob

    def _append(self, blob: bytes) -> None:
        self._parts.append(blob)
        self._size += len(blob)
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
