"""The two shapes of log-probabilities, byte for byte, as OpenAI sends them."""

from __future__ import annotations

import math
from typing import Any

from engine.token_logprob import Alternative, TokenLogprob
from tests.fakes.engine import FakeEngine, Step, answer, end, piece
from tests.fakes.house import CHAT_BODY, CHAT_PATH, COMPLETION_BODY, COMPLETIONS_PATH, House
from tests.fakes.specification import validate
from tests.routes.openai.test_official_client import client

HEART = "❤".encode()
TOKENS = (
    TokenLogprob(b" a", -0.5, 0, (Alternative(b" a", -0.5), Alternative(HEART[:2], -1.5))),
    TokenLogprob(HEART[:2], -2.0, 2, (Alternative(b"<|im_end|>", -0.25, False), Alternative(b"b", -0.75))),
    TokenLogprob(HEART[2:], -0.0, 2, ()),
    TokenLogprob(b"<tool>", -3.0, 3, (), False),
)
SCRIPT: list[Step] = [
    answer()[0],
    [piece(" a", logprobs=TOKENS[:1])],
    [end(text="❤", prompt=3, completion=4, logprobs=TOKENS[1:])],
]


async def test_the_shape_of_chat() -> None:
    reply = await House(FakeEngine(SCRIPT)).post(CHAT_PATH, CHAT_BODY | {"logprobs": True, "top_logprobs": 2})
    validate(reply.json(), "CreateChatCompletionResponse")
    half = "\\xe2\\x9d"
    assert reply.json()["choices"][0]["logprobs"] == {
        "content": [
            {
                "token": " a",
                "logprob": -0.5,
                "bytes": [32, 97],
                "top_logprobs": [
                    {"token": " a", "logprob": -0.5, "bytes": [32, 97]},
                    {"token": half, "logprob": -1.5, "bytes": [0xE2, 0x9D]},
                ],
            },
            {
                "token": half,
                "logprob": -2.0,
                "bytes": [0xE2, 0x9D],
                "top_logprobs": [
                    {"token": "<|im_end|>", "logprob": -0.25, "bytes": None},
                    {"token": "b", "logprob": -0.75, "bytes": [98]},
                ],
            },
            {"token": "\\xa4", "logprob": -0.0, "bytes": [0xA4], "top_logprobs": []},
            {"token": "<tool>", "logprob": -3.0, "bytes": None, "top_logprobs": []},
        ],
        "refusal": None,
    }


async def test_the_shape_of_completions() -> None:
    reply = await House(FakeEngine(SCRIPT)).post(COMPLETIONS_PATH, COMPLETION_BODY | {"logprobs": 2})
    validate(reply.json(), "CreateCompletionResponse")
    half = "bytes:\\xe2\\x9d"
    assert reply.json()["choices"][0]["logprobs"] == {
        "tokens": [" a", half, "bytes:\\xa4", "<tool>"],
        "token_logprobs": [-0.5, -2.0, -0.0, -3.0],
        "top_logprobs": [
            {" a": -0.5, half: -1.5},
            {"<|im_end|>": -0.25, "b": -0.75, half: -2.0},
            {"bytes:\\xa4": -0.0},
            {"<tool>": -3.0},
        ],
        "text_offset": [0, 2, 2, 3],
    }


async def test_an_answer_without_tokens_has_empty_lists() -> None:
    script: list[Step] = [answer()[0], [end(prompt=3, completion=1, logprobs=())]]
    house = House(FakeEngine(script))
    chat = (await house.post(CHAT_PATH, CHAT_BODY | {"logprobs": True})).json()["choices"][0]
    assert chat["logprobs"] == {"content": [], "refusal": None}
    completion = (await house.post(COMPLETIONS_PATH, COMPLETION_BODY | {"logprobs": 0})).json()["choices"][0]
    assert completion["logprobs"] == {
        "tokens": [],
        "token_logprobs": [],
        "top_logprobs": [],
        "text_offset": [],
    }
    assert (await house.post(CHAT_PATH, CHAT_BODY)).json()["choices"][0]["logprobs"] is None


async def test_the_engine_is_asked_for_so_many() -> None:
    house = House()
    await house.post(CHAT_PATH, CHAT_BODY | {"logprobs": True, "top_logprobs": 20})
    await house.post(CHAT_PATH, CHAT_BODY | {"logprobs": True})
    await house.post(CHAT_PATH, CHAT_BODY)
    await house.post(COMPLETIONS_PATH, COMPLETION_BODY | {"logprobs": 5})
    assert [request.logprobs for request in house.engine.requests] == [20, 0, None, 5]


async def test_the_client_takes_both_strictly() -> None:
    async with client(House(FakeEngine(SCRIPT))) as ours:
        chat: Any = await ours.chat.completions.create(
            model=CHAT_BODY["model"],  # type: ignore[call-overload]
            messages=[{"role": "user", "content": "Hi"}],
            logprobs=True,
            top_logprobs=2,
        )
        completion = await ours.completions.create(model=str(CHAT_BODY["model"]), prompt="Once", logprobs=2)
    scored = chat.choices[0].logprobs.content
    assert math.isclose(sum(token.logprob for token in scored), -5.5)
    assert b"".join(bytes(token.bytes or ()) for token in scored).decode() == chat.choices[0].message.content
    assert completion.choices[0].logprobs is not None
    assert completion.choices[0].logprobs.text_offset == [0, 2, 2, 3]


async def test_the_client_s_own_reassembly_adds_them_up() -> None:
    async with (
        client(House(FakeEngine(SCRIPT))) as ours,
        ours.chat.completions.stream(
            model=str(CHAT_BODY["model"]),
            messages=[{"role": "user", "content": "Hi"}],
            logprobs=True,
            top_logprobs=2,
        ) as stream,
    ):
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    assert final.choices[0].logprobs is not None
    assert [token.logprob for token in final.choices[0].logprobs.content or ()] == [-0.5, -2.0, -0.0, -3.0]
