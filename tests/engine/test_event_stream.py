"""What one reader sees of its request: everything once, in order, then the end or the failure."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import RequestTimeout, WorkerDied
from engine.event_stream import MAX_UNREAD_BYTES, EventStream
from engine.events import Accepted, Event, Finish, Piece
from engine.token_logprob import Alternative, TokenLogprob

_FINISH = Finish("stop", 1, 0, 1, 0.0, 0.0, 0.0)


def _text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Piece))


async def test_what_came_between_two_reads_is_read_together() -> None:
    stream = EventStream(1)
    stream.push(Accepted(1, 5))
    stream.push(Piece(1, 0, "a", 1))
    assert await stream.read() == [Accepted(1, 5), Piece(1, 0, "a", 1)]
    stream.push(Piece(1, 0, "b", 1))
    stream.push(Piece(1, 0, "c", 1, _FINISH))
    assert _text(await stream.read()) == "bc"
    assert await stream.read() == []


async def test_log_probabilities_count_as_unread_too() -> None:
    token = TokenLogprob(b"x", -1.0, 0, (Alternative(b"y", -2.0),) * 20)
    stream = EventStream(1)
    while not stream.is_over:
        stream.push(Piece(1, 0, "x", 1, None, (token,)))
    unread = await stream.read()
    assert len(unread) <= MAX_UNREAD_BYTES // (21 * 64) + 1
    with pytest.raises(RequestTimeout):
        await stream.read()


async def test_a_reader_waits_for_what_comes() -> None:
    stream = EventStream(1)
    reader = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    assert not reader.done()
    stream.push(Piece(1, 0, "a", 1))
    assert _text(await asyncio.wait_for(reader, 5)) == "a"


async def test_it_ends_when_every_choice_has() -> None:
    stream = EventStream(2)
    stream.push(Piece(1, 1, "", 1, _FINISH))
    assert not stream.is_over
    assert len(await stream.read()) == 1
    stream.push(Piece(1, 0, "", 1, _FINISH))
    assert stream.is_over
    assert len(await stream.read()) == 1
    assert await stream.read() == []


async def test_a_failure_comes_behind_what_is_unread_and_the_first_stands() -> None:
    stream = EventStream(1)
    stream.push(Piece(1, 0, "a", 1))
    stream.fail(WorkerDied("first"))
    stream.fail(RequestTimeout("second"))
    stream.push(Piece(1, 0, "late", 1))
    assert _text(await stream.read()) == "a"
    with pytest.raises(WorkerDied, match="first"):
        await stream.read()


async def test_a_failure_wakes_the_reader() -> None:
    stream = EventStream(1)
    reader = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    stream.fail(WorkerDied("gone"))
    with pytest.raises(WorkerDied):
        await asyncio.wait_for(reader, 5)


async def test_nothing_comes_behind_the_end() -> None:
    stream = EventStream(1)
    stream.push(Piece(1, 0, "a", 1, _FINISH))
    stream.push(Piece(1, 0, "b", 1))
    stream.fail(WorkerDied("too late to matter"))
    assert _text(await stream.read()) == "a"
    assert await stream.read() == []


async def test_a_reader_that_gave_up_waiting_can_read_again() -> None:
    stream = EventStream(1)
    reader = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    stream.push(Piece(1, 0, "a", 1))
    assert _text(await stream.read()) == "a"


async def test_a_reader_that_is_too_slow_fails_and_its_memory_is_bounded() -> None:
    stream = EventStream(1)
    pushed = 0
    while not stream.is_over:
        stream.push(Piece(1, 0, "x" * 1000, 1))
        pushed += 1000
    assert MAX_UNREAD_BYTES * 0.9 < pushed < MAX_UNREAD_BYTES + 2000
    stream.push(Piece(1, 0, "x" * 1000, 1))
    assert len(_text(await stream.read())) == pushed
    with pytest.raises(RequestTimeout, match="slowly"):
        await stream.read()


async def test_reading_in_between_never_fails() -> None:
    stream = EventStream(1)
    for _ in range(1000):
        stream.push(Piece(1, 0, "x" * 1000, 1))
        await stream.read()
    assert not stream.is_over
