"""The engine over a pretend worker that dies, or is silent: and a watch that spares who owes nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from engine import frames, restart_policy
from engine.engine import Engine
from engine.errors import (
    ModelLoadFailed,
    ModelUnavailable,
    RequestQuarantined,
    WorkerDied,
)
from engine.events import Accepted, Piece
from engine.question import Text, Tokenize
from tests.engine.pretended import (
    FINISH,
    REQUEST,
    Stream,
    asking,
    begin,
    newest_worker,
    pretended,
    report,
    until,
)
from tests.fakes.steps import steps
from tests.fakes.worker_process import FakeWorkerProcess


@pytest.fixture
async def engine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    async with pretended(monkeypatch) as engine:
        yield engine


async def test_a_death_fails_its_streams_and_the_next_worker_serves(engine: Engine) -> None:
    _, stream = await begin(engine)
    first = newest_worker()
    first.say(report())
    first.kill()
    with pytest.raises(WorkerDied, match="SIGKILL"):
        await anext(stream)
    await until(lambda: engine.is_ready and engine.restarts == 1)
    assert newest_worker() is not first
    assert engine.stats.steps_total == 1, "totals survive"
    number, stream = await begin(engine)
    newest_worker().say(report(Piece(number, 0, "b", 1, FINISH)))
    assert len(await anext(stream)) == 1
    await stream.aclose()
    assert engine.stats.steps_total == 2


async def _die(engine: Engine, streams: list[Stream]) -> None:
    restarts = engine.restarts
    newest_worker().kill()
    for stream in streams:
        with pytest.raises(WorkerDied):
            await anext(stream)
    await until(lambda: engine.is_ready and engine.restarts == restarts + 1)


async def test_a_request_that_saw_two_deaths_is_refused_and_its_neighbours_are_not(engine: Engine) -> None:
    for _ in range(2):
        killer, one = await begin(engine, asking("killer"))
        newest_worker().say(frames.Begun([killer]))
        _, two = await begin(engine, asking("waits"))
        await _die(engine, [one, two])
    before = len(FakeWorkerProcess.made)
    with pytest.raises(RequestQuarantined):
        await anext(steps(engine, asking("killer", request_id="another")))
    assert newest_worker().submitted == [], "the third worker never hears of it"
    assert len(FakeWorkerProcess.made) == before
    _, stream = await begin(engine, asking("waits"))
    await stream.aclose()
    _, stream = await begin(engine, asking("killer", tenant="somebody else"))
    await stream.aclose()


async def test_a_death_between_which_the_request_was_answered_does_not_count(engine: Engine) -> None:
    for _ in range(3):
        number, stream = await begin(engine, asking("once more"))
        newest_worker().say(frames.Begun([number]))
        await _die(engine, [stream])
        number, stream = await begin(engine, asking("once more"))
        newest_worker().say(report(Piece(number, 0, "b", 1, FINISH)))
        assert len([event async for event in stream]) == 1


async def test_a_question_that_ends_the_worker_twice_is_not_asked_again(engine: Engine) -> None:
    for _ in range(2):
        asked = asyncio.ensure_future(engine.ask(Tokenize("killer")))
        await until(lambda: newest_worker().sent)
        restarts = engine.restarts
        newest_worker().kill()
        with pytest.raises(WorkerDied):
            await asked
        await until(lambda restarts=restarts: engine.is_ready and engine.restarts == restarts + 1)
    with pytest.raises(RequestQuarantined):
        await engine.ask(Tokenize("killer"))


async def test_while_it_restarts_requests_are_told_to_come_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart_policy, "FIRST_DELAY_S", 60.0)
    newest_worker().kill()
    await until(lambda: not engine.is_ready)
    with pytest.raises(ModelUnavailable) as caught:
        await anext(steps(engine, REQUEST))
    assert caught.value.retry_after_s == pytest.approx(30.0 + engine.facts.load_s, abs=20.0)


async def test_a_worker_that_keeps_dying_is_given_up(engine: Engine) -> None:
    for restarts in range(restart_policy.BREAKER_DEATHS):
        await until(lambda restarts=restarts: engine.is_ready and engine.restarts == restarts)
        newest_worker().kill()
    await until(lambda: engine.failure is not None)
    with pytest.raises(ModelLoadFailed, match="keeps dying"):
        await anext(steps(engine, REQUEST))


async def test_a_start_that_fails_counts_as_a_death(engine: Engine) -> None:
    FakeWorkerProcess.start_failures += [ModelLoadFailed("gone")] * 2
    newest_worker().kill()
    await until(lambda: engine.restarts == 1)
    assert len(FakeWorkerProcess.made) == 4


async def test_stopping_ends_what_runs(engine: Engine) -> None:
    _, stream = await begin(engine)
    await engine.stop()
    with pytest.raises(ModelUnavailable):
        await anext(stream)
    with pytest.raises(ModelUnavailable):
        await anext(steps(engine, REQUEST))
    assert newest_worker().is_dead


def _watch_after(engine: Engine, silent_s: float) -> None:
    """What the watch does when it next looks, had the worker been silent for so long."""
    engine._watch._heard_s = engine._watch._stepped_s = asyncio.get_running_loop().time() - silent_s
    engine._watch.check()


async def test_a_worker_that_owes_an_answer_and_is_silent_is_ended(engine: Engine) -> None:
    _, stream = await begin(engine)
    worker = newest_worker()
    _watch_after(engine, 59.0)
    assert not worker.is_dead
    _watch_after(engine, 61.0)
    assert worker.is_dead
    with pytest.raises(WorkerDied):
        await anext(stream)


async def test_light_work_does_not_hide_that_nothing_is_computed(engine: Engine) -> None:
    """The thread that computes hangs; the other goes on to admit requests and to answer questions."""
    _, stream = await begin(engine)
    worker = newest_worker()
    engine._watch._stepped_s -= 61.0
    _, other = await begin(engine)
    asked = asyncio.ensure_future(engine.ask(Tokenize("a")))
    await until(lambda: isinstance(worker.sent[-1], frames.Ask))
    worker.say(frames.Answered(3, Text("a")))
    await asked
    engine._watch.check()
    assert worker.is_dead
    for each in (stream, other):
        with pytest.raises(WorkerDied):
            await anext(each)


async def test_a_step_is_a_sign_of_life(engine: Engine) -> None:
    _, stream = await begin(engine)
    engine._watch._stepped_s -= 61.0
    newest_worker().say(report())
    engine._watch.check()
    assert not newest_worker().is_dead
    await stream.aclose()


async def test_a_worker_is_not_blamed_for_a_reader_that_does_not_read_its_end(engine: Engine) -> None:
    number, stream = await begin(engine)
    newest_worker().say(report(Piece(number, 0, "all of it", 1, FINISH)))
    _watch_after(engine, 1000.0)
    assert not newest_worker().is_dead
    await stream.aclose()


async def test_a_silence_in_which_nothing_was_asked_does_not_count(engine: Engine) -> None:
    _, stream = await begin(engine)
    await stream.aclose()
    engine._watch._heard_s -= 1000.0
    engine._watch._stepped_s -= 1000.0
    stream = steps(engine, REQUEST)
    first = asyncio.ensure_future(anext(stream))
    await until(lambda: len(newest_worker().submitted) == 2)
    engine._watch.check()
    newest_worker().say(frames.Admitted(Accepted(newest_worker().submitted[-1], 3)))
    engine._watch.check()
    assert not newest_worker().is_dead
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    await stream.aclose()
