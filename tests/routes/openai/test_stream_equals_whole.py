"""For every dialect: the reassembled stream is the whole answer, whatever the engine says in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import Accepted, FinishReason
from engine.token_logprob import Alternative, TokenLogprob
from tests.fakes.engine import FakeEngine, Step, end, piece
from tests.fakes.house import BODIES, CHAT_PATH, COMPLETIONS_PATH, House, frames

Answer = dict[str, Any]

MAX_CHOICES = 4
ALTERNATIVES = st.builds(Alternative, st.binary(max_size=4), st.floats(-99, 0), st.booleans())
LOGPROBS = st.lists(
    st.builds(
        TokenLogprob,
        st.binary(max_size=4),
        st.floats(-99, 0),
        st.integers(0, 99),
        st.lists(ALTERNATIVES, max_size=3).map(tuple),
        st.booleans(),
    ),
    max_size=3,
).map(tuple)
ASKING: dict[str, dict[str, object]] = {CHAT_PATH: {"logprobs": True}, COMPLETIONS_PATH: {"logprobs": 3}}


CALLING: dict[str, dict[str, object]] = {
    "": {},
    "tools": {"tools": [{"type": "function", "function": {"name": "look"}}]},
    "functions": {"functions": [{"name": "look"}]},
}
"""How the request offers something to call; completions know of no calls."""
CALL = '<tool_call>\n{"name": "look", "arguments": {"x": "\\u00fc, y"}}\n</tool_call>'


@dataclass(frozen=True)
class Scripted:
    choices: int
    is_scored: bool
    calling: str
    steps: list[Step]


@st.composite
def called(draw: st.DrawFn, choices: int, calling: str) -> list[tuple[int, str]]:
    """Calls behind some of the choices, cut anywhere. The older ``functions`` are called one at a time."""
    written = ("", CALL) if calling == "functions" else ("", CALL, f"{CALL}\n{CALL}")
    parts: list[tuple[int, str]] = []
    for choice in range(choices):
        text = draw(st.sampled_from(written))
        cuts = sorted(draw(st.sets(st.integers(1, 60), max_size=4)))
        parts += [(choice, text[a:b]) for a, b in pairwise((0, *cuts, len(text))) if text[a:b]]
    return parts


@st.composite
def scripts(draw: st.DrawFn) -> Scripted:
    """The texts of the choices come interleaved, some with their end, some before it."""
    choices = draw(st.integers(1, MAX_CHOICES))
    calling = draw(st.sampled_from(sorted(CALLING)))
    part = st.one_of(st.text(), st.sampled_from(("<think>", "</thi", "nk>", "</think>")))
    texts = draw(st.lists(st.tuples(st.integers(0, choices - 1), part), max_size=20))
    if calling:
        texts += draw(called(choices, calling))
    reasons: list[FinishReason] = draw(
        st.lists(st.sampled_from(("stop", "length")), min_size=choices, max_size=choices)
    )
    is_scored = draw(st.booleans())
    scores = LOGPROBS if is_scored else st.none()
    cuts = draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))
    steps: list[Step] = [[Accepted(1, 9)]]
    for (choice, text), is_cut in zip(texts, cuts, strict=True):
        if is_cut or len(steps) == 1:
            steps.append([])
        steps[-1].append(piece(text, choice, logprobs=draw(scores)))
    ends = [
        end(
            choice,
            reason,
            text="" if calling else draw(st.text(max_size=3)),
            prompt=9 if choice == 0 else 0,
            cached=draw(st.integers(0, 9)) if choice == 0 else 0,
            completion=draw(st.integers(0, 50)),
            logprobs=draw(scores),
        )
        for choice, reason in enumerate(reasons)
    ]
    order = draw(st.permutations(ends))
    last: list[Step] = [[item] for item in order] if draw(st.booleans()) else [list(order)]
    return Scripted(choices, is_scored, calling, steps + last)


def merge(logprobs: dict[int, Answer], choice: Answer) -> None:
    """Add up the lists of what a chunk tells of its tokens."""
    if choice["logprobs"] is not None:
        merged = logprobs.setdefault(choice["index"], {})
        for name, values in choice["logprobs"].items():
            merged[name] = None if values is None else merged.get(name, []) + values


def add_delta(message: Answer, delta: Answer) -> None:
    """Add up as clients do: texts are joined, calls by their index."""
    (name, *others) = delta
    assert (name, others) in (
        ("content", []),
        ("reasoning_content", ["reasoning"]),
        ("tool_calls", []),
        ("function_call", []),
    )
    match name:
        case "tool_calls":
            (part,) = delta[name]
            calls = message.setdefault(name, [])
            if part["index"] == len(calls):
                calls.append({"id": part["id"], "type": part["type"], "function": dict(part["function"])})
            else:
                assert part.keys() == {"index", "function"}
                assert part["function"].keys() == {"arguments"}
                calls[part["index"]]["function"]["arguments"] += part["function"]["arguments"]
        case "function_call":
            call = message.setdefault(name, {"name": "", "arguments": ""})
            call |= {key: call[key] + text for key, text in delta[name].items()}
        case _:
            for each, text in delta.items():
                message[each] = (message.get(each) or "") + text


def without_ids(choices: list[Answer]) -> list[Answer]:
    """The ids of calls are made up for each answer."""
    for choice in choices:
        for call in choice.get("message", {}).get("tool_calls", ()):
            assert call.pop("id").startswith("call_")
    return choices


def reassemble_chat(chunks: list[Answer]) -> list[Answer]:
    messages: dict[int, Answer] = {}
    reasons: dict[int, str] = {}
    logprobs: dict[int, Answer] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            index, delta = choice["index"], choice["delta"]
            assert index not in reasons
            if choice["finish_reason"]:
                assert delta == {}
                reasons[index] = choice["finish_reason"]
            elif index in messages:
                add_delta(messages[index], delta)
            else:
                assert delta in (
                    {"role": "assistant", "content": text, "refusal": None} for text in ("", None)
                )
                messages[index] = dict(delta)
            merge(logprobs, choice)
    return [
        {
            "index": index,
            "message": messages[index],
            "finish_reason": reasons[index],
            "logprobs": logprobs.get(index),
        }
        for index in sorted(messages)
    ]


def reassemble_completions(chunks: list[Answer]) -> list[Answer]:
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    logprobs: dict[int, Answer] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            index = choice["index"]
            assert index not in reasons
            texts[index] = texts.get(index, "") + choice["text"]
            if choice["finish_reason"]:
                assert choice["text"] == ""
                reasons[index] = choice["finish_reason"]
            merge(logprobs, choice)
    return [
        {
            "index": index,
            "text": texts[index],
            "finish_reason": reasons[index],
            "logprobs": logprobs.get(index),
        }
        for index in sorted(texts)
    ]


REASSEMBLERS: dict[str, Callable[[list[Answer]], list[Answer]]] = {
    CHAT_PATH: reassemble_chat,
    COMPLETIONS_PATH: reassemble_completions,
}


def test_every_dialect_is_tested() -> None:
    assert REASSEMBLERS.keys() == BODIES.keys()


@pytest.mark.parametrize("path", REASSEMBLERS)
@settings(max_examples=100, deadline=None)
@given(scripts(), st.booleans(), st.booleans(), st.booleans())
def test_the_reassembled_stream_equals_the_whole_answer(
    path: str, script: Scripted, include_usage: bool, include_obfuscation: bool, thinks: bool
) -> None:
    engine = FakeEngine(script.steps)
    if thinks:
        engine.facts = msgspec.structs.replace(engine.facts, reasoning_format="think")
    asyncio.run(compare(path, script, engine, include_usage, include_obfuscation))


async def compare(
    path: str, script: Scripted, engine: FakeEngine, include_usage: bool, obfuscate: bool
) -> None:
    house = House(engine)
    is_scored = script.is_scored
    body = BODIES[path] | {"n": script.choices} | (ASKING[path] if is_scored else {})
    if path == CHAT_PATH:
        body |= CALLING[script.calling]
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
    told = REASSEMBLERS[path](chunks)
    for streamed_choice, choice in zip(told, whole["choices"], strict=True):
        assert (choice["logprobs"] is not None) == is_scored
        if is_scored and streamed_choice["logprobs"] is None:
            # A choice without a token: whole it has empty lists, and in a stream there is no chunk to hold them.
            assert not any(choice.pop("logprobs").values())
            del streamed_choice["logprobs"]
    assert without_ids(told) == without_ids(whole["choices"])

    heads = {(chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"]) for chunk in chunks}
    (head,) = heads
    assert head[0] != whole["id"]
    assert head[2:] == (whole["model"], whole["system_fingerprint"])
    assert {chunk["object"] for chunk in chunks} <= {"chat.completion.chunk", "text_completion"}
