"""What the HTTP server tells of a connection, and takes for it, beneath every middleware: an ASGI extension of ours.

Middlewares are concerned with how an answer begins; each chunk of a stream would pass through all of them, and a task
would wake up for it. And by ASGI alone, to notice that a client went away takes a task for each request that runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypedDict

from starlette.types import Scope, Send

CONNECTION: Final = "nibble.connection"


class Connection(TypedDict):
    """Under that name in the extensions of a request's scope."""

    send: Send
    """The server's own."""
    write: Callable[[bytes], bool]
    """Send a part of the body at once, behind its start; False where it has to wait, and then nothing is sent."""
    gone: asyncio.Future[None]
    """Done when there is no connection any more."""
    drop: Callable[[], None]
    """End it at once. To close it waits until what was sent is read."""


def connection_of(scope: Scope) -> Connection | None:
    """None where another server than ours, or a test, calls the app."""
    found: Connection | None = scope.get("extensions", {}).get(CONNECTION)
    return found
