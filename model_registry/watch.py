"""Looking at files and store again and again, for what has changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

_logger = logging.getLogger("nibble.registry")


class Watch:
    """Owned by the registry, and with it by the event loop."""

    def __init__(self, look: Callable[[], Awaitable[None]], pause_s: float) -> None:
        """``pause_s`` are the seconds between two looks; 0 is never."""
        self._look = look
        self._pause_s = pause_s
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        if self._pause_s:
            self._task = asyncio.create_task(self._keep_looking(), name="watch models")

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._pause_s)
            try:
                await self._look()
            except Exception:
                # The next look may well succeed; without this nobody would look again.
                _logger.exception("could not look for models")
