"""How long a request may wait: what the operator allows, what a client asks for, and what is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

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


async def test_patience_is_spent_once() -> None:
    patience = QueuePatience(30.0)
    async with patience.spend():
        await asyncio.sleep(0.01)
    assert patience.left_s is not None
    assert patience.left_s < 30.0


async def test_patience_ends() -> None:
    patience = QueuePatience(0.01)
    with pytest.raises(QueueTimeout):
        async with patience.spend():
            await asyncio.get_running_loop().create_future()


async def test_what_runs_out_of_time_elsewhere_is_not_taken_for_it() -> None:
    with pytest.raises(TimeoutError):
        async with QueuePatience(30.0).spend():
            raise TimeoutError


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
