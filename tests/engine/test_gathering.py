from __future__ import annotations

import asyncio

import pytest

from engine.embedding import Vectors
from engine.errors import InternalError, WorkerDied
from engine.gathering import VectorGathering


async def test_vectors_come_in_any_order_and_parts() -> None:
    gathering = VectorGathering(3)
    gathering.accept(7)
    gathering.add(Vectors(1, [2, 0], b"ccccaaaa"))
    assert not gathering.is_over
    gathering.add(Vectors(1, [1], b"bbbb"))
    assert gathering.is_over
    told = await gathering.result()
    assert (told.vectors, told.prompt_tokens) == ((b"aaaa", b"bbbb", b"cccc"), 7)
    gathering.fail(InternalError("too late"))
    assert await gathering.result() == told


async def test_the_first_failure_stands() -> None:
    gathering = VectorGathering(1)
    gathering.fail(WorkerDied("first"))
    gathering.fail(InternalError("second"))
    gathering.add(Vectors(1, [0], b"aaaa"))
    with pytest.raises(WorkerDied):
        await gathering.result()


async def test_who_gives_up_waiting_does_not_end_it() -> None:
    gathering = VectorGathering(1)
    waiting = asyncio.create_task(gathering.result())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert not gathering.is_over
