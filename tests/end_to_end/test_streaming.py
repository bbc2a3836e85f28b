"""A stream and a whole answer are the same answer, through OpenAI's own client, sync and async."""

from __future__ import annotations

import json

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.end_to_end.live_server import MODEL, LiveServer
from tests.fakes.specification import validate

pytestmark = pytest.mark.model

MESSAGES: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "Count from 1 to 10, separated by commas."}
]


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=12, temperature=0)
    (choice,) = answer.choices
    assert choice.message.content
    assert choice.message.content.startswith("1, 2, 3")
    assert (answer.object, answer.model, choice.finish_reason) == ("chat.completion", MODEL, "length")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.system_fingerprint


def test_a_chat_that_ends_by_itself(client: openai.OpenAI) -> None:
    """Of a short question. Where it ends a count hangs on the processor, whose kernels round otherwise."""
    question: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
    answer = client.chat.completions.create(model=MODEL, messages=question, max_tokens=400, temperature=0)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"


def test_a_streamed_chat_equals_the_whole_one(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=12, temperature=0)
    stream = client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        max_tokens=12,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert [chunk.choices[0].delta.role for chunk in chunks[:-1]].count("assistant") == 1
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
        == whole.choices[0].message.content
    )
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-2].choices[0].delta.content is None
    assert chunks[-1].choices == []
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert {chunk.system_fingerprint for chunk in chunks} == {whole.system_fingerprint}
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_comes_only_where_it_was_asked_for(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=2, stream=True)
    for chunk in stream:
        assert len(chunk.choices) == 1, "clients index the first choice of every chunk"
        assert chunk.usage is None


def test_the_client_s_own_reassembly(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=MESSAGES, max_tokens=5, temperature=0
    ) as stream:
        for _ in stream:
            pass
        with pytest.raises(openai.LengthFinishReasonError) as caught:
            stream.get_final_completion()
    assert caught.value.completion.choices[0].message.content == "1, 2,"


async def test_async_chat_streamed_and_whole(async_client: openai.AsyncOpenAI) -> None:
    whole = await async_client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=8, temperature=0
    )
    stream = await async_client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=8, temperature=0, stream=True
    )
    parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(parts) == whole.choices[0].message.content == "1, 2, 3,"


async def test_async_completion(async_client: openai.AsyncOpenAI) -> None:
    answer = await async_client.completions.create(
        model=MODEL, prompt="1, 2, 3,", max_tokens=3, temperature=0
    )
    assert answer.choices[0].text == " 4,"


async def test_leaving_a_stream_early_is_no_error(async_client: openai.AsyncOpenAI) -> None:
    async with await async_client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=200, stream=True
    ) as stream:
        async for _ in stream:
            break
    assert [model.id async for model in async_client.models.list()] == [MODEL]


@pytest.mark.parametrize(
    ("path", "body", "schema"),
    [
        ("/v1/chat/completions", {"messages": MESSAGES}, "CreateChatCompletionResponse"),
        ("/v1/completions", {"prompt": "1, 2, 3,"}, "CreateCompletionResponse"),
    ],
    ids=["chat", "completions"],
)
def test_answers_keep_to_the_specification(
    server: LiveServer, path: str, body: dict[str, object], schema: str
) -> None:
    validate(server.post(path, {"max_tokens": 2, **body}).json(), schema)


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", {"messages": MESSAGES}), ("/v1/completions", {"prompt": "1, 2, 3,"})],
    ids=["chat", "completions"],
)
def test_the_bytes_of_a_stream(server: LiveServer, path: str, body: dict[str, object]) -> None:
    response = server.post(path, {"max_tokens": 3, "temperature": 0, "stream": True, **body})
    assert response.headers["content-type"].startswith("text/event-stream")
    frames = response.text.split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    for frame in frames[:-2]:
        name, _, value = frame.partition(": ")
        assert name == "data"
        chunk = json.loads(value)
        assert chunk["choices"][0]["finish_reason"] in (None, "length")
        if path.endswith("chat/completions"):
            validate(chunk, "CreateChatCompletionStreamResponse")
