"""Noticing that a client went away while its answer is being made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.types import Receive, Scope

from routes.connection import connection_of


@asynccontextmanager
async def departure(scope: Scope, receive: Receive) -> AsyncGenerator[asyncio.Future[None]]:
    """A future that is done when the client is gone.

    The request's body must have been read: what ``receive`` brings after it is the disconnect.
    """
    connection = connection_of(scope)
    if connection is not None:
        yield connection["gone"]
        return
    gone = asyncio.create_task(_disconnect(receive))
    try:
        yield gone
    finally:
        gone.cancel()
        # Its receive must have ended before another one begins.
        await asyncio.wait({gone})
        if not gone.cancelled():
            gone.exception()  # a receive that fails is a client that went


async def outstays(scope: Scope, receive: Receive, work: asyncio.Task[None]) -> bool:
    """Wait until ``work`` is done or the client is gone; whether the client is still there."""
    async with departure(scope, receive) as gone:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        return not gone.done()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
