"""What an engine tells, as something to iterate over: for tests that look at one step at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from engine.event_stream import Take
from engine.events import Event
from engine.request import EngineRequest
from generation.engine_port import EnginePort

ItemT = TypeVar("ItemT")


async def told(run: Callable[[Callable[[ItemT], None]], Awaitable[None]]) -> AsyncGenerator[ItemT, None]:
    """Whatever ``run`` tells the function that it is given; closing the generator cancels it, and waits for its end."""
    items: asyncio.Queue[ItemT] = asyncio.Queue()
    running = asyncio.ensure_future(run(items.put_nowait))
    try:
        while not (running.done() and items.empty()):
            getting = asyncio.ensure_future(items.get())
            await asyncio.wait({running, getting}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                yield getting.result()
            else:
                getting.cancel()
        running.result()
    finally:
        running.cancel()
        await asyncio.wait({running})


def steps(engine: EnginePort, request: EngineRequest) -> AsyncGenerator[list[Event], None]:
    """What each step of ``engine`` brings for ``request``."""

    def run(take: Take) -> Awaitable[None]:
        return engine.generate(request, take)

    return told(run)
