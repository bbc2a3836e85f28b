"""Noticing that a client went away while its answer is being made."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from starlette.types import Receive


async def outstays(receive: Receive, futures: Iterable[asyncio.Future[None]]) -> bool:
    """Wait until one of ``futures`` is done or the client is gone; whether the client is still there.

    The request's body must have been read: what ``receive`` brings after it is the disconnect.
    """
    gone = asyncio.create_task(_disconnect(receive))
    try:
        await asyncio.wait({gone, *futures}, return_when=asyncio.FIRST_COMPLETED)
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
