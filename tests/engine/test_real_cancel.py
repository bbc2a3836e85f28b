"""Requests left in the queue, while their prompt is read, and while they answer: their place is free at once."""

from __future__ import annotations

import asyncio

import pytest

from engine.engine import Engine
from engine.events import Accepted, Piece
from tests.engine.real import LONG_TEXT, PARALLEL, STORY, answer, asking, until
from tests.fakes.steps import steps

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]


async def _is_idle(engine: Engine) -> None:
    await until(lambda: (engine.stats.running, engine.stats.waiting) == (0, 0))


async def test_leaving_while_answering(engine: Engine) -> None:
    stream = steps(engine, asking(max_tokens=400, ignore_eos=True))
    async for events in stream:
        if isinstance(events[0], Piece):
            break
    assert engine.stats.running == 1
    await stream.aclose()
    await _is_idle(engine)


async def test_leaving_while_the_prompt_is_read(engine: Engine) -> None:
    computed = engine.stats.generation_tokens_total
    stream = steps(engine, asking(f"Unread: {LONG_TEXT}", max_tokens=20))
    assert isinstance((await anext(stream))[0], Accepted)
    await stream.aclose()
    await _is_idle(engine)
    assert engine.stats.generation_tokens_total - computed <= 1, "it was left before it answered"


async def test_leaving_the_queue(engine: Engine) -> None:
    running = [
        steps(engine, asking(f"{n} {STORY}", max_tokens=400, ignore_eos=True)) for n in range(PARALLEL)
    ]
    for stream in running:
        await anext(stream)
    await until(lambda: engine.stats.running == PARALLEL)
    queued = [steps(engine, asking(f"q{n} {STORY}", max_tokens=4)) for n in range(3)]
    for stream in queued:
        await anext(stream)
    await until(lambda: engine.stats.waiting == 3)
    await queued[0].aclose()
    await queued[2].aclose()
    await until(lambda: engine.stats.waiting == 1)
    await running[0].aclose()
    async with asyncio.timeout(30.0):
        pieces = [event async for events in queued[1] for event in events if isinstance(event, Piece)]
    assert pieces[-1].finish is not None
    for stream in running[1:]:
        await stream.aclose()
    await _is_idle(engine)


async def test_many_who_leave_at_random_leave_nothing(engine: Engine) -> None:
    async def ask_and_leave(n: int) -> None:
        stream = steps(engine, asking(f"{n}: {STORY}", max_tokens=12, ignore_eos=True))
        left = n % 4
        async for _ in stream:
            if left == 0:
                break
            left -= 1
        await stream.aclose()

    async with asyncio.timeout(60.0):
        await asyncio.gather(*(ask_and_leave(n) for n in range(24)))
    await _is_idle(engine)
    told = await asyncio.gather(*(answer(engine, asking(f"{n}", max_tokens=3)) for n in range(PARALLEL)))
    assert all(one.finish for one in told)
