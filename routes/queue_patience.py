"""How long a request may wait for its turn: for a place among those of its key, and then for one with the model.

The operator sets a limit, and a client may set a lower one for its own request, in a header. Loading a model is not
waiting for a turn.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from starlette.requests import Request

from engine.errors import InvalidRequest, QueueTimeout

QUEUE_TIMEOUT_HEADER = "x-nibble-queue-timeout-s"
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")


class QueuePatience:
    """Of one request. Owned by the task that does its work."""

    def __init__(self, limit_s: float | None) -> None:
        self.left_s = limit_s
        """None waits for ever."""

    def within(self, place: AbstractAsyncContextManager[None]) -> AbstractAsyncContextManager[None]:
        """``place``, for which one waits no longer than what is left; how long that took is gone from it.

        Raises QueueTimeout when nothing is left.
        """
        return place if self.left_s is None else self._within(place, self.left_s)

    @asynccontextmanager
    async def _within(self, place: AbstractAsyncContextManager[None], left_s: float) -> AsyncGenerator[None]:
        loop = asyncio.get_running_loop()
        began, limit = loop.time(), asyncio.timeout(left_s)
        async with AsyncExitStack() as held:
            try:
                async with limit:
                    await held.enter_async_context(place)
            except TimeoutError:
                if not limit.expired():
                    raise
                raise QueueTimeout(
                    "the requests of this API key that run already left no place in the time that one may wait for it"
                ) from None
            self.left_s = max(0.0, left_s - (loop.time() - began))
            yield


def queue_patience(request: Request, allowed_s: float | None) -> QueuePatience:
    """The shorter of what the operator allows and what the client asks for. Raises InvalidRequest."""
    given = request.headers.get(QUEUE_TIMEOUT_HEADER)
    if given is None:
        return QueuePatience(allowed_s)
    if not _SECONDS.fullmatch(given) or not float(given):
        raise InvalidRequest(
            f"The header '{QUEUE_TIMEOUT_HEADER}' takes seconds, such as 30 or 2.5.",
            param=QUEUE_TIMEOUT_HEADER,
        )
    return QueuePatience(float(given) if allowed_s is None else min(float(given), allowed_s))
