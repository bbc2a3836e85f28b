"""A watch for a worker that owes something and does not come on with it: two heartbeats, of its two threads.

That a worker still takes requests in and answers questions proves nothing of the thread that computes. So requests that
it has read are owed steps, and what it has still to read is owed any frame. An idle worker owes nothing, and is not
watched: no timer runs, and no processor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from engine.exchange import Exchange, Standing


class StallWatch:
    """Of one engine. Owned by the event loop."""

    def __init__(
        self, limit_s: float, exchanges: Mapping[int, Exchange], on_stall: Callable[[float], None]
    ) -> None:
        """``exchanges`` are those of the engine, now and later; ``on_stall`` is told the seconds of silence."""
        self._limit_s = limit_s
        self._exchanges = exchanges
        self._on_stall = on_stall
        self._heard_s = 0.0
        self._stepped_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def expect(self) -> None:
        """A request is about to be sent."""
        if not self._owes(Standing.SENT):
            self._heard_s = self._loop.time()  # it was silent because nothing was asked of it
        if self._timer is None:
            self._timer = self._loop.call_later(self._limit_s, self.check)

    def expect_steps(self) -> None:
        """A request is about to count as read."""
        if not self._owes(Standing.READ):
            self._stepped_s = self._loop.time()

    def hear(self, *, is_step: bool) -> None:
        """A frame has come, of the thread that computes or of the other."""
        self._heard_s = self._loop.time()
        if is_step:
            self._stepped_s = self._heard_s

    def check(self) -> None:
        """Called by the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if not self._owes(Standing.SENT):
            return
        since_s = min(self._heard_s, self._stepped_s) if self._owes(Standing.READ) else self._heard_s
        silent_s = self._loop.time() - since_s
        if silent_s >= self._limit_s:
            self._on_stall(silent_s)
            return
        self._timer = self._loop.call_later(self._limit_s - silent_s, self.check)

    def _owes(self, standing: Standing) -> bool:
        """Whether anything as far as that, or further, is to come. What only its reader keeps open is no debt."""
        return any(
            exchange.standing >= standing and not exchange.reader.is_over
            for exchange in self._exchanges.values()
        )
