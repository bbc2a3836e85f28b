"""How many requests of one key run at the same time, and how many more wait."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

_SMOOTHING = 0.2
"""Weight of the newest request in what requests are taken to last."""


class NoPlace(Exception):
    """Every place is taken, and so is every place in the queue. ``retry_after_s`` is None while nothing has ended."""

    def __init__(self, retry_after_s: float | None) -> None:
        super().__init__("no place")
        self.retry_after_s = retry_after_s


class Places:
    """First come, first served. Owned by the event loop."""

    def __init__(
        self, concurrent: int | None, queued: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._concurrent = concurrent
        self._queued = queued
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._mean_s: float | None = None
        self.running = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def resize(self, concurrent: int | None, queued: int) -> None:
        """Other limits from now on; what runs or waits already goes on."""
        self._concurrent, self._queued = concurrent, queued
        self._admit()

    async def enter(self) -> float:
        """Take a place, waiting for one first if need be; when that was, for ``leave``. Raises NoPlace at once if too
        many wait.
        """
        await self._wait()
        return self._clock()

    def leave(self, entered_s: float) -> None:
        """Give the place back."""
        self.running -= 1
        lasted = self._clock() - entered_s
        mean_s = lasted if self._mean_s is None else self._mean_s
        self._mean_s = mean_s + _SMOOTHING * (lasted - mean_s)
        self._admit()

    async def _wait(self) -> None:
        if not self._waiting and self._has_room():
            self.running += 1
            return
        if len(self._waiting) >= self._queued:
            raise NoPlace(self._expected_s())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                # It was given the place in the very step in which it was told to end.
                self.running -= 1
                self._admit()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def _admit(self) -> None:
        while self._waiting and self._has_room():
            turn = self._waiting.popleft()
            if not turn.done():
                self.running += 1
                turn.set_result(None)

    def _has_room(self) -> bool:
        return self._concurrent is None or self.running < self._concurrent

    def _expected_s(self) -> float | None:
        """Until one more could come in: each place ends a request every ``_mean_s``."""
        if self._mean_s is None or self._concurrent is None:
            return None
        return self._mean_s * (len(self._waiting) + 1) / self._concurrent
