"""The route of embeddings over a fake engine: shapes in, forms out, through OpenAI's own client too."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
import pytest
from openai import AsyncOpenAI

from engine.errors import ContextLengthExceeded, QueueFull, UnsupportedField, WorkerDied
from engine.prompt import TextPrompt, TokenPrompt
from tests.fakes.engine import FakeEngine, Gate, failing
from tests.fakes.house import EMBEDDINGS_PATH, PLAIN_BODIES, House
from tests.fakes.loopback import loopback, send_request
from tests.fakes.registry import MODEL

BODY = PLAIN_BODIES[EMBEDDINGS_PATH]


@asynccontextmanager
async def client(house: House, *, strict: bool) -> AsyncIterator[AsyncOpenAI]:
    async with (
        loopback(house.app) as server,
        AsyncOpenAI(
            api_key="unused",
            base_url=f"http://127.0.0.1:{server.port}/v1",
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
            _strict_response_validation=strict,
            max_retries=0,
        ) as ours,
    ):
        yield ours


SHAPES = {
    "text": ("four", (TextPrompt("four"),), False),
    "texts": (["a", "bb"], (TextPrompt("a"), TextPrompt("bb")), True),
    "tokens": ([7, 8], (TokenPrompt((7, 8)),), False),
    "token lists": ([[7], [8, 9]], (TokenPrompt((7,)), TokenPrompt((8, 9))), True),
    "most": (["a"] * 2048, (TextPrompt("a"),) * 2048, True),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_each_shape_of_input(shape: str) -> None:
    given, inputs, is_list = SHAPES[shape]
    house = House()
    reply = await house.post(EMBEDDINGS_PATH, BODY | {"input": given})
    assert reply.status_code == 200, reply.text
    (asked,) = house.engine.embedded
    assert (asked.inputs, asked.is_list, asked.dimensions) == (inputs, is_list, None)
    told = reply.json()
    assert [item["index"] for item in told["data"]] == list(range(len(inputs)))
    assert told["usage"] == {"prompt_tokens": 2 * len(inputs), "total_tokens": 2 * len(inputs)}
    assert house.telemetry.last.ends == ["finished"]
    assert house.telemetry.last.operation == "embeddings"
    assert house.telemetry.last.choices[0].usage.prompt_tokens == 2 * len(inputs)
    assert house.registry.leased == house.registry.released == 1


async def test_both_forms_hold_the_same_numbers() -> None:
    house = House()
    plain = (await house.post(EMBEDDINGS_PATH, BODY)).json()["data"][0]["embedding"]
    named = (await house.post(EMBEDDINGS_PATH, BODY | {"encoding_format": "float"})).json()
    coded = (await house.post(EMBEDDINGS_PATH, BODY | {"encoding_format": "base64"})).json()
    assert plain == named["data"][0]["embedding"]
    assert list(struct.unpack("<3f", base64.b64decode(coded["data"][0]["embedding"]))) == plain
    assert plain == pytest.approx([4, 0.1, -1e-9])


async def test_the_official_client_in_either_form() -> None:
    house = House()
    async with client(house, strict=False) as ours:
        # Without a form it asks for base64 and decodes it itself, but validates, if it is to, before that.
        coded = await ours.embeddings.create(model=MODEL, input=["a", "bb"])
    async with client(house, strict=True) as ours:
        plain = await ours.embeddings.create(
            model=MODEL, input=["a", "bb"], encoding_format="float", dimensions=3, user="me"
        )
    assert [item.embedding for item in coded.data] == [item.embedding for item in plain.data]
    assert [round(item.embedding[0]) for item in plain.data] == [1, 2]
    assert (plain.model, plain.object, plain.usage.total_tokens) == (MODEL, "list", 4)
    assert [request.dimensions for request in house.engine.embedded] == [None, 3]


@pytest.mark.parametrize(
    ("error", "status", "param"),
    [
        (ContextLengthExceeded("too long", param="input[1]"), 400, "input[1]"),
        (UnsupportedField("no", param="dimensions"), 400, "dimensions"),
        (QueueFull("full"), 503, None),
        (WorkerDied("gone"), 503, None),
    ],
)
async def test_what_the_engine_refuses(error: Exception, status: int, param: str | None) -> None:
    house = House(FakeEngine(failing(error)))  # type: ignore[arg-type]
    reply = await house.post(EMBEDDINGS_PATH, BODY)
    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)
    assert house.registry.released == 1
    assert len(house.telemetry.last.ends) == 1


async def test_a_client_that_leaves_ends_its_request() -> None:
    gate = Gate()
    house = House(FakeEngine([gate]))
    async with loopback(house.app) as server:
        _, writer = await send_request(server.port, EMBEDDINGS_PATH, BODY)
        await asyncio.wait_for(gate.reached.wait(), 5)
        writer.close()
        async with asyncio.timeout(5):
            while not house.registry.released:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    assert house.telemetry.last.ends == ["aborted"]
