from __future__ import annotations

import asyncio

import pytest

from engine.errors import ModelUnavailable
from routes.running_requests import RunningRequests


async def test_ending_gives_every_request_its_error() -> None:
    running = RunningRequests()
    entered = asyncio.Event()

    async def work() -> None:
        with running.enter():
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    assert len(running) == 1
    running.end(ModelUnavailable("stopping"))
    running.end(ModelUnavailable("twice"))
    with pytest.raises(ModelUnavailable, match="stopping"):
        await task
    assert len(running) == 0


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    running = RunningRequests()
    with pytest.raises(asyncio.CancelledError), running.enter():
        raise asyncio.CancelledError
    assert len(running) == 0


async def test_draining_refuses_new_requests_and_keeps_the_old() -> None:
    running = RunningRequests()
    with running.enter():
        running.drain()
        assert running.is_draining
        with pytest.raises(ModelUnavailable), running.enter():
            pass
        assert len(running) == 1
