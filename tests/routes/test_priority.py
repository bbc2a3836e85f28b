"""Who goes first, as far as the routes decide it."""

from __future__ import annotations

import pytest

from tests.fakes.callers import FakeCaller
from tests.fakes.house import BODIES, JSON_HEADERS, House

PATHS = pytest.mark.parametrize("path", BODIES)


async def asked_priority(house: House, path: str, priority: int | None) -> int:
    body = BODIES[path] | ({} if priority is None else {"priority": priority})
    reply = await house.post(path, body)
    assert reply.status_code == 200, reply.text
    return house.engine.requests[-1].priority


@PATHS
async def test_a_request_has_the_priority_of_its_key_or_its_own(path: str) -> None:
    house = House()
    house.callers.anybody = FakeCaller(priority=-5, most_urgent=-5)
    assert await asked_priority(house, path, None) == -5
    assert await asked_priority(house, path, -5) == -5
    assert await asked_priority(house, path, 30) == 30


@PATHS
@pytest.mark.parametrize("stream", [False, True])
async def test_no_request_is_more_urgent_than_its_key(path: str, stream: bool) -> None:
    house = House()
    alice = house.callers.keys["secret"] = FakeCaller("alice", priority=10, most_urgent=10)
    async with house.client() as client:
        headers = {**JSON_HEADERS, "authorization": "Bearer secret"}
        body = BODIES[path] | {"priority": 9, "stream": stream}
        reply = await client.post(path, json=body, headers=headers)
    assert reply.status_code == 403
    error = reply.json()["error"]
    assert (error["code"], error["param"]) == ("not_permitted", "priority")
    assert "'alice'" in error["message"]
    assert house.telemetry.last.ends == ["not_permitted"]
    assert [charge.settled for charge in alice.charges] == [0], "what was refused takes nothing of its limit"
    assert not house.engine.requests
