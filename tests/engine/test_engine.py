"""The engine over a pretend worker: streams, refusals, deaths, and a watch that spares who owes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from engine import engine as engine_module
from engine import frames, restart_policy
from engine.config import EngineConfig, EngineStats
from engine.engine import Engine
from engine.errors import (
    ErrorRecord,
    InternalError,
    InvalidRequest,
    ModelLoadFailed,
    ModelUnavailable,
    NibbleError,
    QueueFull,
    RequestTimeout,
    WorkerDied,
)
from engine.event_stream import MAX_UNREAD_BYTES
from engine.events import Accepted, Event, Finish, Piece
from engine.prompt import TextPrompt, TokenPrompt
from engine.request import EngineRequest
from engine.sampling.params import SamplingParams
from tests.fakes.worker_process import FakeWorkerProcess

_FINISH = Finish("stop", 3, 0, 1, queue_s=0.0, prefill_s=0.0, decode_s=0.0)
_REQUEST = EngineRequest(prompts=(TextPrompt("Once"),))
Stream = AsyncGenerator[list[Event], None]


@pytest.fixture
async def engine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    monkeypatch.setattr(FakeWorkerProcess, "made", [], raising=False)
    monkeypatch.setattr(FakeWorkerProcess, "start_failures", [], raising=False)
    monkeypatch.setattr(engine_module, "WorkerProcess", FakeWorkerProcess)
    monkeypatch.setattr(restart_policy, "FIRST_DELAY_S", 0.0)
    engine = await Engine.start(
        EngineConfig(model_id="m", model_path="m.gguf", queue_limit=2, stall_limit_s=60)
    )
    yield engine
    await engine.stop()


def _worker() -> FakeWorkerProcess:
    return FakeWorkerProcess.made[-1]


def _report(*pieces: Piece, failures: tuple[frames.Failure, ...] = ()) -> frames.StepReport:
    return frames.StepReport(list(pieces), list(failures), EngineStats(steps_total=1))


async def _until(condition: object, limit_s: float = 5.0) -> None:
    """Let the loop run until ``condition()`` holds."""
    assert callable(condition)
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


async def _begin(engine: Engine, request: EngineRequest = _REQUEST) -> tuple[int, Stream]:
    """Start a request whose acceptance has been read; return its number and the rest of its stream."""
    stream = engine.generate(request)
    worker, before = _worker(), len(_worker().submitted)
    first = asyncio.ensure_future(anext(stream))
    await _until(lambda: len(worker.submitted) > before)
    number = worker.submitted[-1]
    worker.say(frames.Admitted(Accepted(number, 3)))
    assert await first == [Accepted(number, 3)]
    return number, stream


async def test_a_request_is_told_what_the_worker_says_until_its_end(engine: Engine) -> None:
    number, stream = await _begin(engine)
    _worker().say(_report(Piece(number, 0, "a", 1)))
    assert await anext(stream) == [Piece(number, 0, "a", 1)]
    _worker().say(_report(Piece(number, 0, "b", 1, _FINISH)))
    assert await anext(stream) == [Piece(number, 0, "b", 1, _FINISH)]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert _worker().cancelled == []


async def test_leaving_cancels(engine: Engine) -> None:
    number, stream = await _begin(engine)
    await stream.aclose()
    assert _worker().cancelled == [number]
    _worker().say(_report(Piece(number, 0, "late", 1)))


async def test_a_refusal_is_raised_as_what_it_is(engine: Engine) -> None:
    stream = engine.generate(_REQUEST)
    first = asyncio.ensure_future(anext(stream))
    await _until(lambda: _worker().submitted)
    failure = frames.Failure(_worker().submitted[0], ErrorRecord.of(InvalidRequest("no", param="stop")))
    _worker().say(frames.Refused(failure))
    with pytest.raises(InvalidRequest, match="no") as caught:
        await first
    assert caught.value.param == "stop"


async def test_a_failed_step_fails_its_requests_alone(engine: Engine) -> None:
    failing, first = await _begin(engine)
    going, second = await _begin(engine)
    record = ErrorRecord.of(InternalError("the step failed"))
    _worker().say(_report(Piece(going, 0, "on", 1), failures=(frames.Failure(failing, record),)))
    with pytest.raises(InternalError, match="the step failed"):
        await anext(first)
    assert await anext(second) == [Piece(going, 0, "on", 1)]
    await second.aclose()


async def test_one_choice_too_many_is_refused_and_a_place_comes_back(engine: Engine) -> None:
    limit = engine.facts.parallel + 2
    _, stream = await _begin(engine, EngineRequest(prompts=(TextPrompt("a"),), n=limit))
    with pytest.raises(QueueFull) as caught:
        await anext(engine.generate(_REQUEST))
    assert caught.value.retry_after_s
    await stream.aclose()
    _, stream = await _begin(engine)
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
        await anext(engine.generate(request_))
    _, stream = await _begin(engine)
    await stream.aclose()


async def test_a_request_too_large_for_a_frame_is_a_typed_error(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 1000)
    with pytest.raises(InvalidRequest, match="limit"):
        await anext(engine.generate(EngineRequest(prompts=(TextPrompt("x" * 2000),))))


# -- deaths -------------------------------------------------------------------------------------------------


async def test_a_death_fails_its_streams_and_the_next_worker_serves(engine: Engine) -> None:
    _, stream = await _begin(engine)
    first = _worker()
    first.say(_report())
    first.kill()
    with pytest.raises(WorkerDied, match="SIGKILL"):
        await anext(stream)
    await _until(lambda: engine.is_ready and engine.restarts == 1)
    assert _worker() is not first
    assert engine.stats.steps_total == 1, "totals survive"
    number, stream = await _begin(engine)
    _worker().say(_report(Piece(number, 0, "b", 1, _FINISH)))
    assert len(await anext(stream)) == 1
    await stream.aclose()
    assert engine.stats.steps_total == 2


async def test_while_it_restarts_requests_are_told_to_come_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart_policy, "FIRST_DELAY_S", 60.0)
    _worker().kill()
    await _until(lambda: not engine.is_ready)
    with pytest.raises(ModelUnavailable) as caught:
        await anext(engine.generate(_REQUEST))
    assert caught.value.retry_after_s


async def test_a_worker_that_keeps_dying_is_given_up(engine: Engine) -> None:
    for restarts in range(restart_policy.BREAKER_DEATHS):
        await _until(lambda restarts=restarts: engine.is_ready and engine.restarts == restarts)
        _worker().kill()
    await _until(lambda: engine.failure is not None)
    with pytest.raises(ModelLoadFailed, match="keeps dying"):
        await anext(engine.generate(_REQUEST))


async def test_a_start_that_fails_counts_as_a_death(engine: Engine) -> None:
    FakeWorkerProcess.start_failures += [ModelLoadFailed("gone")] * 2
    _worker().kill()
    await _until(lambda: engine.restarts == 1)
    assert len(FakeWorkerProcess.made) == 4


async def test_stopping_ends_what_runs(engine: Engine) -> None:
    _, stream = await _begin(engine)
    await engine.stop()
    with pytest.raises(ModelUnavailable):
        await anext(stream)
    with pytest.raises(ModelUnavailable):
        await anext(engine.generate(_REQUEST))
    assert _worker().is_dead


# -- readers that are slow, workers that are silent -----------------------------------------------------------


async def test_a_reader_that_is_too_slow_gives_its_place_up_at_once(engine: Engine) -> None:
    number, stream = await _begin(engine)
    for _ in range(4):
        _worker().say(_report(Piece(number, 0, "x" * (MAX_UNREAD_BYTES // 2), 1)))
    assert _worker().cancelled == [number], "nobody waits until the reader has read what is there"
    await anext(stream)
    with pytest.raises(RequestTimeout):
        await anext(stream)


def _watch_after(engine: Engine, silent_s: float) -> None:
    """What the watch does when it next looks, had the worker been silent for so long."""
    assert engine._stall_timer is not None
    engine._stall_timer.cancel()
    engine._heard_s = asyncio.get_running_loop().time() - silent_s
    engine._check_stall()


async def test_a_worker_that_owes_an_answer_and_is_silent_is_ended(engine: Engine) -> None:
    _, stream = await _begin(engine)
    worker = _worker()
    _watch_after(engine, 59.0)
    assert not worker.is_dead
    _watch_after(engine, 61.0)
    assert worker.is_dead
    with pytest.raises(WorkerDied):
        await anext(stream)


async def test_a_worker_is_not_blamed_for_a_reader_that_does_not_read_its_end(engine: Engine) -> None:
    number, stream = await _begin(engine)
    _worker().say(_report(Piece(number, 0, "all of it", 1, _FINISH)))
    _watch_after(engine, 1000.0)
    assert not _worker().is_dead
    await stream.aclose()


async def test_a_silence_in_which_nothing_was_asked_does_not_count(engine: Engine) -> None:
    _, stream = await _begin(engine)
    await stream.aclose()
    engine._heard_s -= 1000.0
    stream = engine.generate(_REQUEST)
    first = asyncio.ensure_future(anext(stream))
    await _until(lambda: len(_worker().submitted) == 2)
    assert engine._stall_timer is not None
    engine._stall_timer.cancel()
    engine._check_stall()
    assert not _worker().is_dead
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
