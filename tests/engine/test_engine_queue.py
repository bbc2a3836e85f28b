"""The queue of an engine over a pretend worker: its bounds, and how long one may wait in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from engine import frames
from engine.config import EngineStats
from engine.embedding import EmbeddingRequest
from engine.engine import Engine
from engine.errors import (
    KeyQueueFull,
    QueueFull,
    QueueTimeout,
)
from engine.events import Accepted
from engine.histogram import Histogram
from engine.prompt import TextPrompt
from tests.engine.pretended import asking, begin, newest_worker, pretended, until
from tests.fakes.steps import steps


@pytest.fixture
async def engine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    async with pretended(monkeypatch) as engine:
        yield engine


async def test_one_key_cannot_fill_the_queue(engine: Engine) -> None:
    limit = engine.facts.parallel + 2
    _, flood = await begin(engine, asking(tenant="flood", n=limit, max_tokens=1))
    with pytest.raises(KeyQueueFull):
        await anext(steps(engine, asking(tenant="flood", max_tokens=1)))
    _, other = await begin(engine, asking(tenant="other", max_tokens=1))
    await flood.aclose()
    await other.aclose()


async def test_the_queue_is_bounded_in_tokens_by_key_and_in_total(engine: Engine) -> None:
    streams = [(await begin(engine, asking(tenant="a", max_tokens=450)))[1]]
    with pytest.raises(KeyQueueFull, match="tokens waiting"):
        await anext(steps(engine, asking(tenant="a", max_tokens=50)))
    streams.append((await begin(engine, asking(tenant="b", max_tokens=450)))[1])
    with pytest.raises(QueueFull, match="tokens waiting"):
        await anext(steps(engine, asking(tenant="c", max_tokens=100)))
    newest_worker().say(frames.Begun([newest_worker().submitted[0]]))
    streams.append((await begin(engine, asking(tenant="c", max_tokens=100)))[1])
    for stream in streams:
        await stream.aclose()
    _, stream = await begin(engine, asking(tenant="a", max_tokens=450))
    await stream.aclose()


async def test_when_to_come_again_follows_from_the_measured_pace(engine: Engine) -> None:
    _, stream = await begin(engine, asking(max_tokens=797))
    stats = EngineStats(generation_tokens_total=1000, step_seconds_total=Histogram([0], 10.0))
    newest_worker().say(frames.StepReport([], [], stats))
    with pytest.raises(QueueFull) as caught:
        await anext(steps(engine, asking(max_tokens=500)))
    assert caught.value.retry_after_s == pytest.approx(8.0), "3 tokens of a prompt and 797 at 100 a second"
    await stream.aclose()


async def test_a_request_that_waits_too_long_is_refused_and_withdrawn(engine: Engine) -> None:
    stream = steps(engine, asking(queue_timeout_s=0.01))
    first = asyncio.ensure_future(anext(stream))
    await until(lambda: newest_worker().submitted)
    newest_worker().say(frames.Admitted(Accepted(newest_worker().submitted[0], 3)))
    with pytest.raises(QueueTimeout) as caught:
        await first
    assert caught.value.retry_after_s
    assert newest_worker().submitted[0] in newest_worker().cancelled
    assert not engine._backlog.choices


async def test_a_request_that_is_begun_with_in_time_may_take_as_long_as_it_likes(engine: Engine) -> None:
    stream = steps(engine, asking(queue_timeout_s=5.0))
    first = asyncio.ensure_future(anext(stream))
    await until(lambda: newest_worker().submitted)
    number = newest_worker().submitted[0]
    newest_worker().say(frames.Admitted(Accepted(number, 3)))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not first.done(), "its status is not given away while it may still be refused"
    patience = engine._exchanges[number].patience
    assert patience is not None
    newest_worker().say(frames.Begun([number]))
    assert await first == [Accepted(number, 3)]
    assert patience.cancelled()
    await stream.aclose()


async def test_vectors_wait_no_longer_either(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "facts", msgspec.structs.replace(engine.facts, capabilities=("embedding",)))
    request = EmbeddingRequest(inputs=(TextPrompt("a"),), queue_timeout_s=0.01)
    with pytest.raises(QueueTimeout):
        await engine.embed(request)
    assert newest_worker().cancelled
