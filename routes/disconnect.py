"""Noticing that a client went away while its answer is being made."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope

from routes.connection import connection_of


async def outstays(scope: Scope, receive: Receive, work: asyncio.Task[None]) -> bool:
    """Wait until ``work`` is done or the client is gone; whether the client is still there.

    The request's body must have been read: what ``receive`` brings after it is the disconnect.
    """
    connection = connection_of(scope)
    if connection is not None:
        await asyncio.wait({work, connection["gone"]}, return_when=asyncio.FIRST_COMPLETED)
        return not connection["gone"].done()
    gone = asyncio.create_task(_disconnect(receive))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        return not gone.done()
    finally:
        gone.cancel()
        # Its receive must have ended before another one begins.
        await asyncio.wait({gone})
        if not gone.cancelled():
            gone.exception()  # a receive that fails is a client that went


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
