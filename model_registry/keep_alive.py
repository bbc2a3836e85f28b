"""When to unload: a model that nobody has used for its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from model_registry.model import Model


class KeepAlive:
    """One timer for each model that has a time. Owned by the registry, and with it by the event loop."""

    def __init__(self, expire: Callable[[Model], None]) -> None:
        """``expire`` is called when a model's time is over; it may have come into use again by then."""
        self._expire = expire
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def begin(self, model: Model, keep_alive_s: float | None) -> None:
        """The last use of ``model`` has ended. None keeps it for ever."""
        self.end(model)
        if keep_alive_s is not None:
            loop = asyncio.get_running_loop()
            self._timers[id(model)] = loop.call_later(keep_alive_s, self._fire, model)

    def end(self, model: Model) -> None:
        """``model`` is in use, or gone."""
        if timer := self._timers.pop(id(model), None):
            timer.cancel()

    def left_s(self, model: Model) -> float | None:
        """Seconds until ``model`` expires; None where no time of it runs."""
        timer = self._timers.get(id(model))
        return None if timer is None else max(0.0, timer.when() - asyncio.get_running_loop().time())

    def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _fire(self, model: Model) -> None:
        del self._timers[id(model)]
        self._expire(model)
