"""For every dialect: the reassembled stream is the whole answer, whatever the engine says in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import Accepted, FinishReason
from tests.fakes.engine import FakeEngine, Step, end, piece
from tests.fakes.house import BODIES, CHAT_PATH, COMPLETIONS_PATH, House, frames

Answer = dict[str, Any]

MAX_CHOICES = 4


@st.composite
def scripts(draw: st.DrawFn) -> tuple[int, list[Step]]:
    """How many choices, and steps in which their texts come interleaved, some with their end, some before it."""
    choices = draw(st.integers(1, MAX_CHOICES))
    texts = draw(st.lists(st.tuples(st.integers(0, choices - 1), st.text()), max_size=20))
    reasons: list[FinishReason] = draw(
        st.lists(st.sampled_from(("stop", "length")), min_size=choices, max_size=choices)
    )
    cuts = draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))
    steps: list[Step] = [[Accepted(1, 9)]]
    for (choice, text), is_cut in zip(texts, cuts, strict=True):
        if is_cut or len(steps) == 1:
            steps.append([])
        steps[-1].append(piece(text, choice))
    ends = [
        end(
            choice,
            reason,
            text=draw(st.text(max_size=3)),
            prompt=9 if choice == 0 else 0,
            cached=draw(st.integers(0, 9)) if choice == 0 else 0,
            completion=draw(st.integers(0, 50)),
        )
        for choice, reason in enumerate(reasons)
    ]
    order = draw(st.permutations(ends))
    last: list[Step] = [[item] for item in order] if draw(st.booleans()) else [list(order)]
    return choices, steps + last


def reassemble_chat(chunks: list[Answer]) -> list[Answer]:
    messages: dict[int, Answer] = {}
    reasons: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            index, delta = choice["index"], choice["delta"]
            assert index not in reasons
            if choice["finish_reason"]:
                assert delta == {}
                reasons[index] = choice["finish_reason"]
            elif index in messages:
                assert delta.keys() == {"content"}
                messages[index]["content"] += delta["content"]
            else:
                assert delta == {"role": "assistant", "content": "", "refusal": None}
                messages[index] = dict(delta)
            assert choice["logprobs"] is None
    return [
        {"index": index, "message": messages[index], "finish_reason": reasons[index], "logprobs": None}
        for index in sorted(messages)
    ]


def reassemble_completions(chunks: list[Answer]) -> list[Answer]:
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            index = choice["index"]
            assert index not in reasons
            texts[index] = texts.get(index, "") + choice["text"]
            if choice["finish_reason"]:
                assert choice["text"] == ""
                reasons[index] = choice["finish_reason"]
    return [
        {"index": index, "text": texts[index], "finish_reason": reasons[index], "logprobs": None}
        for index in sorted(texts)
    ]


REASSEMBLERS: dict[str, Callable[[list[Answer]], list[Answer]]] = {
    CHAT_PATH: reassemble_chat,
    COMPLETIONS_PATH: reassemble_completions,
}


def test_every_dialect_is_tested() -> None:
    assert REASSEMBLERS.keys() == BODIES.keys()


@pytest.mark.parametrize("path", REASSEMBLERS)
@settings(max_examples=60, deadline=None)
@given(scripts(), st.booleans(), st.booleans())
def test_the_reassembled_stream_equals_the_whole_answer(
    path: str, script: tuple[int, list[Step]], include_usage: bool, include_obfuscation: bool
) -> None:
    asyncio.run(compare(path, *script, include_usage, include_obfuscation))


async def compare(path: str, n: int, steps: list[Step], include_usage: bool, obfuscate: bool) -> None:
    house = House(FakeEngine(steps))
    body = BODIES[path] | {"n": n}
    whole: Answer = (await house.post(path, body)).json()
    options = {"include_usage": include_usage, "include_obfuscation": obfuscate}
    streamed = await house.post(path, body | {"stream": True, "stream_options": options})
    chunks: list[Answer] = frames(streamed.text)

    if include_usage:
        *chunks, last = chunks
        assert (last["choices"], last["usage"]) == ([], whole["usage"])
        assert all(chunk["usage"] is None for chunk in chunks)
    else:
        assert not any("usage" in chunk for chunk in chunks)
    assert any("obfuscation" in chunk for chunk in chunks) <= obfuscate
    assert REASSEMBLERS[path](chunks) == whole["choices"]

    heads = {(chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"]) for chunk in chunks}
    (head,) = heads
    assert head[0] != whole["id"]
    assert head[2:] == (whole["model"], whole["system_fingerprint"])
    assert {chunk["object"] for chunk in chunks} <= {"chat.completion.chunk", "text_completion"}
