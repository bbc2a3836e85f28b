"""The engine over a pretend worker: streams, refusals, readers that are slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from engine import frames
from engine.engine import Engine
from engine.errors import (
    ErrorRecord,
    InternalError,
    InvalidRequest,
    NibbleError,
    QueueFull,
    RequestTimeout,
)
from engine.events import Event, Piece
from engine.prompt import TextPrompt, TokenPrompt
from engine.request import EngineRequest
from engine.sampling.params import SamplingParams
from tests.engine.pretended import FINISH, REQUEST, begin, newest_worker, pretended, report, until
from tests.fakes.steps import steps


@pytest.fixture
async def engine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    async with pretended(monkeypatch) as engine:
        yield engine


async def test_a_request_is_told_what_the_worker_says_until_its_end(engine: Engine) -> None:
    number, stream = await begin(engine)
    newest_worker().say(report(Piece(number, 0, "a", 1)))
    assert await anext(stream) == [Piece(number, 0, "a", 1)]
    newest_worker().say(report(Piece(number, 0, "b", 1, FINISH)))
    assert await anext(stream) == [Piece(number, 0, "b", 1, FINISH)]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert newest_worker().cancelled == []


async def test_leaving_cancels(engine: Engine) -> None:
    number, stream = await begin(engine)
    await stream.aclose()
    assert newest_worker().cancelled == [number]
    newest_worker().say(report(Piece(number, 0, "late", 1)))


async def test_a_refusal_is_raised_as_what_it_is(engine: Engine) -> None:
    stream = steps(engine, REQUEST)
    first = asyncio.ensure_future(anext(stream))
    await until(lambda: newest_worker().submitted)
    failure = frames.Failure(newest_worker().submitted[0], ErrorRecord.of(InvalidRequest("no", param="stop")))
    newest_worker().say(frames.Refused(failure))
    with pytest.raises(InvalidRequest, match="no") as caught:
        await first
    assert caught.value.param == "stop"


async def test_a_failed_step_fails_its_requests_alone(engine: Engine) -> None:
    failing, first = await begin(engine)
    going, second = await begin(engine)
    record = ErrorRecord.of(InternalError("the step failed"))
    newest_worker().say(report(Piece(going, 0, "on", 1), failures=(frames.Failure(failing, record),)))
    with pytest.raises(InternalError, match="the step failed"):
        await anext(first)
    assert await anext(second) == [Piece(going, 0, "on", 1)]
    await second.aclose()


async def test_one_choice_too_many_is_refused_and_a_place_comes_back(engine: Engine) -> None:
    limit = engine.facts.parallel + 4
    _, stream = await begin(engine, EngineRequest(prompts=(TextPrompt("a"),), n=limit))
    with pytest.raises(QueueFull) as caught:
        await anext(steps(engine, REQUEST))
    assert caught.value.retry_after_s
    await stream.aclose()
    _, stream = await begin(engine)
    await stream.aclose()


@pytest.mark.parametrize(
    "request_",
    [
        EngineRequest(prompts=(TextPrompt("\ud800"),)),
        EngineRequest(prompts=(TokenPrompt((2**70,)),)),
        EngineRequest(prompts=(TextPrompt("a"),), sampling=SamplingParams(seed=-(2**64))),
        EngineRequest(prompts=(TextPrompt("a"),), sampling=SamplingParams(logit_bias={2**70: 1.0})),
    ],
    ids=["surrogate", "token", "seed", "bias"],
)
async def test_what_no_frame_can_carry_is_a_typed_error(engine: Engine, request_: EngineRequest) -> None:
    with pytest.raises(NibbleError):
        await anext(steps(engine, request_))
    _, stream = await begin(engine)
    await stream.aclose()


async def test_a_request_too_large_for_a_frame_is_a_typed_error(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 1000)
    with pytest.raises(InvalidRequest, match="limit"):
        await anext(steps(engine, EngineRequest(prompts=(TextPrompt("x" * 2000),))))


async def test_what_the_taker_raises_ends_its_own_request_at_once_and_no_other(engine: Engine) -> None:
    going, stream = await begin(engine)

    def fail(_: list[Event]) -> None:
        raise RequestTimeout("nobody reads")

    failing = asyncio.create_task(engine.generate(REQUEST, fail))
    await until(lambda: len(newest_worker().submitted) == 2)
    number = newest_worker().submitted[-1]
    newest_worker().say(report(Piece(number, 0, "a", 1), Piece(going, 0, "on", 1)))
    assert await anext(stream) == [Piece(going, 0, "on", 1)]
    with pytest.raises(RequestTimeout, match="nobody reads"):
        await failing
    assert newest_worker().cancelled == [number]
    await stream.aclose()


async def test_what_one_step_brings_for_several_choices_is_told_together(engine: Engine) -> None:
    number, stream = await begin(engine, EngineRequest(prompts=(TextPrompt("a"),), n=2))
    other, another = await begin(engine)
    pieces = [Piece(number, 0, "a", 1), Piece(other, 0, "b", 1), Piece(number, 1, "c", 1)]
    newest_worker().say(report(*pieces))
    assert await anext(stream) == [pieces[0], pieces[2]]
    assert await anext(another) == [pieces[1]]
    await stream.aclose()
    await another.aclose()
