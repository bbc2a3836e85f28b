"""An engine over a pretend worker, and what tests have the worker say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from engine import engine as engine_module
from engine import frames, restart_policy
from engine.config import EngineConfig, EngineStats
from engine.engine import Engine
from engine.events import Accepted, Event, Finish, Piece
from engine.prompt import TextPrompt
from engine.request import EngineRequest
from tests.fakes.steps import steps
from tests.fakes.worker_process import FakeWorkerProcess

FINISH = Finish("stop", 3, 0, 1, queue_s=0.0, prefill_s=0.0, decode_s=0.0)
REQUEST = EngineRequest(prompts=(TextPrompt("Once"),))
Stream = AsyncGenerator[list[Event], None]


@contextlib.asynccontextmanager
async def pretended(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Engine]:
    """An engine whose workers are pretended, and start again at once."""
    monkeypatch.setattr(FakeWorkerProcess, "made", [], raising=False)
    monkeypatch.setattr(FakeWorkerProcess, "start_failures", [], raising=False)
    monkeypatch.setattr(engine_module, "WorkerProcess", FakeWorkerProcess)
    monkeypatch.setattr(restart_policy, "FIRST_DELAY_S", 0.0)
    engine = await Engine.start(
        EngineConfig(
            model_id="m",
            model_path="m.gguf",
            queue_limit=4,
            key_queue_limit=2,
            queue_tokens=1000,
            key_queue_tokens=500,
            stall_limit_s=60,
        )
    )
    try:
        yield engine
    finally:
        await engine.stop()


def newest_worker() -> FakeWorkerProcess:
    return FakeWorkerProcess.made[-1]


def report(*pieces: Piece, failures: tuple[frames.Failure, ...] = ()) -> frames.StepReport:
    return frames.StepReport(list(pieces), list(failures), EngineStats(steps_total=1))


async def until(condition: object, limit_s: float = 5.0) -> None:
    """Let the loop run until ``condition()`` holds."""
    assert callable(condition)
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


async def begin(engine: Engine, request: EngineRequest = REQUEST) -> tuple[int, Stream]:
    """Start a request whose acceptance has been read; return its number and the rest of its stream."""
    stream = steps(engine, request)
    worker, before = newest_worker(), len(newest_worker().submitted)
    first = asyncio.ensure_future(anext(stream))
    await until(lambda: len(worker.submitted) > before)
    number = worker.submitted[-1]
    worker.say(frames.Admitted(Accepted(number, 3)))
    assert await first == [Accepted(number, 3)]
    return number, stream


def asking(text: str = "Once", tenant: str = "", **fields: Any) -> EngineRequest:
    return EngineRequest(prompts=(TextPrompt(text),), tenant=tenant, **fields)
