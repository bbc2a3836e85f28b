"""The registry's way down: no new leases, and a wait for the held ones."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress

from engine.errors import ModelUnavailable


class Drain:
    """Owned by the registry, and with it by the event loop."""

    def __init__(self) -> None:
        self.is_begun = False
        self._leases = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self) -> None:
        self.is_begun = True

    def check(self) -> None:
        """Raises ModelUnavailable once it has begun."""
        if self.is_begun:
            raise ModelUnavailable("the server is shutting down", retry_after_s=5.0)

    @contextmanager
    def awaiting(self) -> Generator[None]:
        """Something that is to be waited for."""
        self._leases += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._leases -= 1
            if not self._leases:
                self._idle.set()

    async def wait(self, limit_s: float) -> bool:
        """Wait up to ``limit_s`` seconds for what is held. True if nothing is left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        return self._idle.is_set()
