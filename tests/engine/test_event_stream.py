"""What one request is told: everything once, in order, in the turn that brings it; then the end or the failure."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import RequestTimeout, WorkerDied
from engine.event_stream import EventStream
from engine.events import Accepted, Event, Finish, Piece

_FINISH = Finish("stop", 1, 0, 1, 0.0, 0.0, 0.0)


class Told:
    """A stream, and what its taker was told, step by step."""

    def __init__(self, choices: int = 1) -> None:
        self.steps: list[list[Event]] = []
        self.stream = EventStream(choices, self.steps.append)

    def bring(self, *events: Accepted | Piece) -> None:
        """One step."""
        if [self.stream.push(event) for event in events].count(True):
            self.stream.tell()


async def test_what_one_step_brings_is_told_together_and_at_once() -> None:
    told = Told(2)
    told.bring(Accepted(1, 5))
    told.bring(Piece(1, 0, "a", 1), Piece(1, 1, "b", 1))
    assert told.steps == [[Accepted(1, 5)], [Piece(1, 0, "a", 1), Piece(1, 1, "b", 1)]]


async def test_only_the_first_event_of_a_step_says_that_there_is_something_to_tell() -> None:
    told = Told(2)
    assert [told.stream.push(Piece(1, choice, "a", 1)) for choice in range(2)] == [True, False]
    told.stream.tell()
    assert told.stream.push(Piece(1, 0, "b", 1))


async def test_it_ends_when_every_choice_has_and_what_ends_it_is_told() -> None:
    told = Told(2)
    told.bring(Piece(1, 1, "", 1, _FINISH))
    assert not told.stream.is_over
    result = asyncio.create_task(told.stream.result())
    await asyncio.sleep(0)
    told.bring(Piece(1, 0, "", 1, _FINISH))
    assert told.stream.is_over
    assert len(told.steps) == 2
    await asyncio.wait_for(result, 5)


async def test_the_first_failure_stands_and_nothing_comes_behind_it() -> None:
    told = Told()
    told.bring(Piece(1, 0, "a", 1))
    told.stream.fail(WorkerDied("first"))
    told.stream.fail(RequestTimeout("second"))
    told.bring(Piece(1, 0, "late", 1))
    assert told.steps == [[Piece(1, 0, "a", 1)]]
    with pytest.raises(WorkerDied, match="first"):
        await told.stream.result()


async def test_nothing_comes_behind_the_end() -> None:
    told = Told()
    told.bring(Piece(1, 0, "a", 1, _FINISH))
    told.bring(Piece(1, 0, "b", 1))
    told.stream.fail(WorkerDied("too late to matter"))
    assert len(told.steps) == 1
    await told.stream.result()


@pytest.mark.parametrize("error", [RequestTimeout("nobody reads"), ZeroDivisionError("a defect")])
@pytest.mark.parametrize("finish", [None, _FINISH])
async def test_what_the_taker_raises_is_the_failure(error: Exception, finish: Finish | None) -> None:
    def fail(_: list[Event]) -> None:
        raise error

    stream = EventStream(1, fail)
    stream.push(Piece(1, 0, "a", 1, finish))
    stream.tell()
    assert stream.is_over
    assert not stream.push(Piece(1, 0, "b", 1))
    with pytest.raises(type(error)):
        await stream.result()
