"""Noticing that a client went away while its answer is being made."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope

from routes.connection import connection_of


def departure(scope: Scope, receive: Receive) -> asyncio.Future[None]:
    """Done when the client is gone; to be given to ``forget`` by whoever needs it no more.

    The request's body must have been read: what ``receive`` brings after it is the disconnect.
    """
    connection = connection_of(scope)
    return asyncio.create_task(_disconnect(receive)) if connection is None else connection["gone"]


async def forget(gone: asyncio.Future[None]) -> None:
    """Wait for nobody's departure any more: its receive must have ended before another one begins."""
    if isinstance(gone, asyncio.Task):
        await settle(gone)


async def settle(task: asyncio.Task[None]) -> None:
    """Cancel it if it still runs, and wait until all that it held is given back."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # told to the client, or nobody is left to be told


async def outstays(scope: Scope, receive: Receive, work: asyncio.Task[None]) -> bool:
    """Wait until ``work`` is done or the client is gone; whether the client is still there."""
    gone = departure(scope, receive)
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        return not gone.done()
    finally:
        await forget(gone)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
