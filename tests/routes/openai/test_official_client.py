"""OpenAI's own Python client against our routes, with its models taken strictly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import openai
import pytest
from openai import AsyncOpenAI

from engine.errors import QueueFull, WorkerDied
from tests.fakes.engine import FakeEngine, Step, answer, end, failing, piece
from tests.fakes.house import House
from tests.fakes.loopback import loopback
from tests.fakes.registry import MODEL


@asynccontextmanager
async def client(house: House, *, strict: bool = True, max_retries: int = 0) -> AsyncIterator[AsyncOpenAI]:
    async with (
        loopback(house.app) as server,
        AsyncOpenAI(
            api_key="unused",
            base_url=f"http://127.0.0.1:{server.port}/v1",
            # No proxy of the machine's between the two.
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
            _strict_response_validation=strict,
            max_retries=max_retries,
        ) as ours,
    ):
        yield ours


async def test_chat() -> None:
    async with client(House(FakeEngine(answer("Hello", " world", prompt=4, reason="length")))) as ours:
        reply = await ours.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
    (choice,) = reply.choices
    assert (choice.message.content, choice.finish_reason, choice.message.refusal) == (
        "Hello world",
        "length",
        None,
    )
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (4, 3, 7)
    assert reply.system_fingerprint == "fp_0123456789ab"


async def test_chat_streamed_with_several_choices() -> None:
    script: list[Step] = [
        *answer()[:1],
        [piece("a", 0), piece("x", 1)],
        [piece("b", 0), end(1)],
        [end(0, prompt=4)],
    ]
    async with client(House(FakeEngine(script))) as ours:
        stream = await ours.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Hi"}],
            n=2,
            stream=True,
            stream_options={"include_usage": True},
        )
        texts: dict[int, str] = {}
        usages = []
        async for chunk in stream:
            usages.append(chunk.usage)
            for choice in chunk.choices:
                texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    assert texts == {0: "ab", 1: "x"}
    assert usages[-1] is not None
    assert set(usages[:-1]) == {None}


async def test_the_client_s_own_reassembly() -> None:
    async with client(House(FakeEngine(answer("Hello", " world")))) as ours:
        messages = [{"role": "user", "content": "Hi"}]
        async with ours.chat.completions.stream(model=MODEL, messages=messages) as stream:  # type: ignore[arg-type]
            async for _ in stream:
                pass
            final = await stream.get_final_completion()
    assert final.choices[0].message.content == "Hello world"
    assert final.choices[0].message.role == "assistant"


async def test_completions() -> None:
    async with client(House(FakeEngine(answer("Hello")))) as ours:
        reply = await ours.completions.create(model=MODEL, prompt="Once")
    assert [(choice.text, choice.finish_reason) for choice in reply.choices] == [("Hello", "stop")]


async def test_completions_streamed() -> None:
    # Not strict: the client's type for a chunk is the one of a whole answer, which knows no null reason,
    # though null is what OpenAI sends and what clients wait on.
    async with client(House(FakeEngine(answer("Hello", " world"))), strict=False) as ours:
        stream = await ours.completions.create(model=MODEL, prompt="Once", stream=True)
        chunks = [chunk.choices[0] async for chunk in stream]
    assert "".join(choice.text for choice in chunks) == "Hello world"
    assert [choice.finish_reason for choice in chunks] == [None, None, "stop"]


async def test_models() -> None:
    async with client(House()) as ours:
        assert [model.id async for model in ours.models.list()] == [MODEL]
        assert (await ours.models.retrieve(MODEL)).owned_by == "nibble"
        with pytest.raises(openai.NotFoundError) as caught:
            await ours.models.retrieve("nope")
    assert caught.value.code == "model_not_found"


async def test_errors_arrive_as_the_client_s_own() -> None:
    async with client(House(FakeEngine(failing(QueueFull("full"))))) as ours:
        with pytest.raises(openai.InternalServerError) as full:
            await ours.completions.create(model=MODEL, prompt="Once")
        with pytest.raises(openai.BadRequestError) as bad:
            await ours.completions.create(model=MODEL, prompt="Once", n=0)
    assert (full.value.status_code, full.value.code) == (503, "queue_full")
    assert (bad.value.param, bad.value.code, bad.value.type) == (
        "n",
        "invalid_request",
        "invalid_request_error",
    )


async def test_what_can_work_later_is_retried_by_the_client() -> None:
    house = House(FakeEngine(failing(QueueFull("full", retry_after_s=0.001))))
    async with client(house, max_retries=2) as ours:
        with pytest.raises(openai.InternalServerError):
            await ours.completions.create(model=MODEL, prompt="Once")
    assert house.engine.started == 3


async def test_a_failure_within_a_stream_raises() -> None:
    house = House(FakeEngine(failing(WorkerDied("the worker died"), *answer("half")[:-1])))
    async with client(house) as ours:
        stream = await ours.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        texts: list[str | None] = []

        async def read() -> None:
            async for chunk in stream:
                texts.append(chunk.choices[0].delta.content)

        with pytest.raises(openai.APIError, match="the worker died") as caught:
            await read()
    assert texts == ["", "half"]
    assert caught.value.code == "worker_died"


async def test_reasoning_comes_apart_from_the_answer_streamed_and_not() -> None:
    engine = FakeEngine(answer("<think>", "Hm", ".", "</think>", "\n\n", "Hi", "!"))
    engine.facts = msgspec.structs.replace(engine.facts, reasoning_format="think")
    async with client(House(engine)) as ours:
        create = ours.chat.completions.create
        whole = await create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
        stream = await create(
            model=MODEL,
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    message = whole.choices[0].message
    assert message.content == "Hi!"
    assert message.model_extra == {"reasoning_content": "Hm.", "reasoning": "Hm."}
    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    assert "".join(delta.content or "" for delta in deltas) == "Hi!"
    for name in ("reasoning_content", "reasoning"):
        assert "".join((delta.model_extra or {}).get(name, "") for delta in deltas) == "Hm."
    for usage in (whole.usage, chunks[-1].usage):
        assert usage
        assert usage.completion_tokens_details
        assert usage.completion_tokens_details.reasoning_tokens == 4
