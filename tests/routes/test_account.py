"""What a request is entered with, however it ends."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from engine.errors import WorkerDied
from generation.events import Usage
from routes.http_errors import RateLimited
from tests.fakes.callers import FakeCaller
from tests.fakes.engine import FakeEngine, answer, failing
from tests.fakes.house import BODIES, CHAT_BODY, CHAT_PATH, EMBEDDINGS_PATH, PLAIN_BODIES, House
from tests.fakes.registry import MODEL

TOOL: dict[str, object] = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
STREAMED = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


@STREAMED
@pytest.mark.parametrize("path", BODIES)
async def test_a_request_is_entered_once_as_it_was_told(path: str, stream: bool) -> None:
    house = House(FakeEngine(answer("a", "b", prompt=4)))
    reply = await house.post(path, BODIES[path] | {"stream": stream, "max_tokens": 9})
    assert reply.status_code == 200
    caller = house.callers.anybody
    ((model, usage),) = caller.entries
    assert (model, usage.prompt_tokens) == (MODEL, 4)
    assert usage.completion_tokens > 0
    (charge,) = caller.charges
    assert charge.reserved >= 9
    assert charge.settled == usage.prompt_tokens + usage.completion_tokens
    assert (caller.requests, caller.held) == (1, 0)


@STREAMED
async def test_a_request_that_never_began_is_not_entered_and_gives_back_what_it_took(stream: bool) -> None:
    house = House(FakeEngine(failing(WorkerDied("gone"))))
    await house.post(CHAT_PATH, CHAT_BODY | {"stream": stream})
    caller = house.callers.anybody
    assert caller.entries == []
    assert [charge.settled for charge in caller.charges] == [0]
    assert caller.held == 0


@STREAMED
@pytest.mark.parametrize(
    "fields",
    [{}, {"tools": [TOOL]}, {"functions": [TOOL["function"]]}],
    ids=["plain", "tools", "functions"],
)
@pytest.mark.parametrize(
    "texts",
    [("a", "b", "c", "d"), ("<tool_call>", '\n{"name": "look", "arguments": {', '"city":', ' "K')],
    ids=["text", "a call"],
)
async def test_a_request_that_breaks_off_is_entered_with_what_was_generated(
    texts: tuple[str, ...], fields: dict[str, object], stream: bool
) -> None:
    house = House(FakeEngine(failing(WorkerDied("gone"), *answer(*texts, prompt=4)[:-1])))
    house.engine.facts = msgspec.structs.replace(house.engine.facts, tool_format="hermes")
    await house.post(CHAT_PATH, CHAT_BODY | fields | {"stream": stream})
    caller = house.callers.anybody
    assert caller.entries == [(MODEL, Usage(prompt_tokens=4, completion_tokens=4))]
    assert [charge.settled for charge in caller.charges] == [8]


async def test_inputs_of_embeddings_are_entered() -> None:
    house = House()
    await house.post(EMBEDDINGS_PATH, PLAIN_BODIES[EMBEDDINGS_PATH])
    ((_, usage),) = house.callers.anybody.entries
    assert usage.prompt_tokens > 0
    assert usage == Usage(prompt_tokens=usage.prompt_tokens)


async def test_a_limit_is_known_before_the_body() -> None:
    house = House()
    headers = {"x-ratelimit-remaining-requests": "0"}
    house.callers.anybody.refusal = RateLimited("too many", retry_after_s=2.5, headers=headers)
    reply = await house.post(CHAT_PATH, b"{")
    assert (reply.status_code, reply.headers["retry-after"], reply.headers["retry-after-ms"]) == (
        429,
        "3",
        "2500",
    )
    assert reply.headers["x-ratelimit-remaining-requests"] == "0"
    assert house.telemetry.rejections == ["rate_limit"]
    assert house.registry.leased == 0


async def test_the_engine_is_told_whose_request_it_is() -> None:
    house = House()
    house.callers.keys = {"secret-of-alice": FakeCaller("alice")}
    async with house.client() as client:
        reply = await client.post(CHAT_PATH, json=CHAT_BODY, headers={"x-api-key": "secret-of-alice"})
    assert reply.status_code == 200
    assert [request.tenant for request in house.engine.requests] == ["alice"]
    await asyncio.sleep(0)
