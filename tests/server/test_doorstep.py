"""A server whose app is still being imported: it lives, and keeps who comes early."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from server.doorstep import Doorstep
from tests.server.nibble_process import ServerUnderTest
from tests.server.test_app import client


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the path."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def by(doorstep: Doorstep) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(doorstep), base_url="http://localhost")


@asynccontextmanager
async def told(events: list[str]) -> AsyncGenerator[None]:
    events.append("begun")
    yield
    events.append("ended")


async def test_health_is_told_as_the_app_tells_it(home: Path) -> None:
    async with client(home) as inside, by(Doorstep()) as outside:
        answers = [await http.get("/health", headers={"x-request-id": "mine"}) for http in (inside, outside)]
    for answer in answers:
        assert answer.headers.pop("date").endswith(" GMT")
    assert answers[0].status_code == answers[1].status_code == 200
    assert sorted(answers[0].headers.items()) == sorted(answers[1].headers.items())
    assert answers[0].content == answers[1].content


async def test_all_else_waits_and_is_let_in_together() -> None:
    doorstep, events = Doorstep(), list[str]()
    async with by(doorstep) as http:
        early = [asyncio.create_task(http.get(f"/{number}")) for number in range(3)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert not any(task.done() for task in early)
        assert events == []
        await doorstep.open(app, told(events))
        doorstep.shut()
        answers = await asyncio.gather(*early, http.get("/health"))
    assert [answer.text for answer in answers] == ["/0", "/1", "/2", "/health"]
    assert events == ["begun"]


async def test_where_nothing_comes_who_waits_is_refused() -> None:
    doorstep = Doorstep()
    async with by(doorstep) as http:
        early = asyncio.create_task(http.get("/v1/models"))
        await asyncio.sleep(0)
        doorstep.shut()
        answer = await early
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "server_error"


@pytest.mark.parametrize("is_opened", [True, False])
async def test_the_lifespan_begins_at_once_and_ends_with_that_of_the_app(*, is_opened: bool) -> None:
    doorstep, events = Doorstep(), list[str]()
    orders: asyncio.Queue[Message] = asyncio.Queue()
    said: asyncio.Queue[Message] = asyncio.Queue()
    living = asyncio.create_task(doorstep({"type": "lifespan"}, orders.get, said.put))
    orders.put_nowait({"type": "lifespan.startup"})
    assert (await said.get())["type"] == "lifespan.startup.complete"
    if is_opened:
        await doorstep.open(app, told(events))
        assert events == ["begun"]
    orders.put_nowait({"type": "lifespan.shutdown"})
    assert (await said.get())["type"] == "lifespan.shutdown.complete"
    await living
    assert events == (["begun", "ended"] if is_opened else [])


@contextmanager
def importing(data: Path) -> Generator[tuple[ServerUnderTest, Path]]:
    """A process that imports its app when something is written to the named pipe."""
    gate = data / "gate"
    with ServerUnderTest(data, ECHO_IMPORT_GATE=str(gate)) as server:
        assert server.status("/health") == 200
        yield server, gate


def test_who_came_early_is_answered_when_the_app_is_there(data: Path) -> None:
    with importing(data) as (server, gate):
        early: list[int] = []
        asking = threading.Thread(target=lambda: early.append(server.status("/v1/models")))
        asking.start()
        assert server.status("/health") == 200
        assert early == []
        gate.write_bytes(b"")
        asking.join()
        assert early == [200]
        server.wait_until_loaded()
        server.end_cleanly()


def test_a_process_that_is_told_to_end_before_ends_well(data: Path) -> None:
    with importing(data) as (server, gate):
        server.signal(signal.SIGTERM)
        gate.write_bytes(b"")
        code, errors = server.end()
    assert code == 0
    assert "Traceback" not in errors


def test_a_second_signal_does_not_wait_for_the_app(data: Path) -> None:
    with importing(data) as (server, gate):
        server.signal(signal.SIGINT)
        server.signal(signal.SIGINT)
        # The interpreter does not end before its threads do.
        gate.write_bytes(b"")
        code, errors = server.end()
    assert code == 128 + signal.SIGINT
    assert "Traceback" not in errors
