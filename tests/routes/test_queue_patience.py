"""How long a request may wait: what the operator allows, what a client asks for, and what is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from starlette.requests import Request

from engine.errors import InvalidRequest, QueueTimeout
from routes.queue_patience import QUEUE_TIMEOUT_HEADER, QueuePatience, queue_patience
from routes.request_policy import RequestPolicy
from tests.fakes.callers import FakeCaller
from tests.fakes.house import BODIES, CHAT_BODY, CHAT_PATH, EMBEDDINGS_PATH, PLAIN_BODIES, House


def asking(seconds: str | None) -> Request:
    headers = [] if seconds is None else [(QUEUE_TIMEOUT_HEADER.encode(), seconds.encode("latin-1"))]
    return Request({"type": "http", "headers": headers})


@pytest.mark.parametrize(
    ("asked", "allowed", "expected"),
    [(None, None, None), (None, 9.0, 9.0), ("2.5", None, 2.5), ("2.5", 9.0, 2.5), ("20", 9.0, 9.0)],
)
def test_the_shorter_of_two(asked: str | None, allowed: float | None, expected: float | None) -> None:
    assert queue_patience(asking(asked), allowed).left_s == expected


@pytest.mark.parametrize("asked", ["", "0", "0.0", "-1", "nan", "inf", "1e3", "soon", "9" * 7, "\xb2", "1,2"])
def test_what_is_no_number_of_seconds_is_refused_by_name(asked: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        queue_patience(asking(asked), None)
    assert caught.value.param == QUEUE_TIMEOUT_HEADER


class Place(AbstractAsyncContextManager[None]):
    """One that is free after some time."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self.held = 0

    async def __aenter__(self) -> None:
        await asyncio.sleep(self._wait_s)
        self.held += 1

    async def __aexit__(self, *raised: object) -> None:
        self.held -= 1


async def test_patience_is_spent_once() -> None:
    patience = QueuePatience(30.0)
    async with patience.within(Place(0.01)):
        waited_s = 30.0 - (patience.left_s or 0.0)
        await asyncio.sleep(0.05)
    assert patience.left_s is not None
    assert 0 < waited_s == 30.0 - patience.left_s, "what is done with the place is not waiting"
    assert patience.left_s < 30.0


async def test_patience_ends() -> None:
    patience = QueuePatience(0.01)
    with pytest.raises(QueueTimeout):
        async with patience.within(Place(3600)):
            pytest.fail("there was no place")


async def test_what_runs_out_of_time_elsewhere_is_not_taken_for_it() -> None:
    for limit_s in (30.0, None):
        with pytest.raises(TimeoutError):
            async with QueuePatience(limit_s).within(Place(0)):
                raise TimeoutError


@pytest.mark.parametrize("limit_s", [30.0, None])
async def test_the_place_is_given_back(limit_s: float | None) -> None:
    place = Place(0)
    async with QueuePatience(limit_s).within(place):
        assert place.held == 1
    assert place.held == 0


class BusyCaller(FakeCaller):
    """Has no place, for as long as it is asked."""

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[None]:
        await asyncio.get_running_loop().create_future()
        yield


@pytest.mark.parametrize("path", [*BODIES, EMBEDDINGS_PATH, "/tokenize"])
async def test_who_waits_too_long_for_a_place_of_his_key_gets_503(path: str) -> None:
    house = House(policy=RequestPolicy(queue_timeout_s=0.01))
    house.callers.anybody = BusyCaller()
    reply = await house.post(path, (BODIES | PLAIN_BODIES)[path])
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "queue_timeout")
    assert reply.headers["retry-after"] == "1"
    assert house.telemetry.rejections == ["queue_timeout"]


@pytest.mark.parametrize("path", [*BODIES, EMBEDDINGS_PATH])
async def test_the_engine_is_told_what_is_left(path: str) -> None:
    house = House()
    async with house.client() as client:
        body = (BODIES | PLAIN_BODIES)[path]
        reply = await client.post(path, json=body, headers={QUEUE_TIMEOUT_HEADER: "20"})
        assert reply.status_code == 200
        told = (house.engine.embedded or house.engine.requests)[-1].queue_timeout_s
        assert told is not None
        assert 10 < told <= 20
        reply = await client.post(CHAT_PATH, json=CHAT_BODY, headers={QUEUE_TIMEOUT_HEADER: "soon"})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, QUEUE_TIMEOUT_HEADER)
