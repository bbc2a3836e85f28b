"""Server-sent events: what a client reads out of the bytes is what went in, in both dialects."""

from __future__ import annotations

import json
from typing import Any

from generation.events import (
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from routes.envelope import Envelope
from routes.openai.chat.encode import ChatEncoder
from routes.openai.chunk_encoder import DONE
from routes.openai.completions.encode import CompletionEncoder
from tests.fuzz.byte_source import ByteSource, cut_bytes
from tests.fuzz.target import Target

_PARTS = ("\n", "\n\n", "\r", "data: ", "[DONE]", '"', "\\", "\u2028", "\0", "🙂", "}\n\n")
_CHOICES = 3


def check(data: bytes) -> None:
    source = ByteSource(data)
    is_chat, has_usage, is_padded = (bool(source.number(1)) for _ in range(3))
    envelope = Envelope("id", 1, source.text(_PARTS, 3), source.text(_PARTS, 2))
    encoder = (ChatEncoder if is_chat else CompletionEncoder)(
        envelope, include_usage=has_usage, include_obfuscation=is_padded
    )
    events = _events(source, is_chat=is_chat)
    steps = [events[start : start + 3] for start in range(0, len(events), 3)]
    stream = b"".join([*map(encoder.encode, steps), encoder.end()])
    at = [source.number(4095) for _ in range(source.number(6))]
    chunks = _read(cut_bytes(stream, sorted(min(each, len(stream)) for each in at)))
    assert stream.endswith(DONE)
    assert all(chunk["model"] == envelope.model for chunk in chunks)
    assert _told(chunks) == _meant(events, is_chat=is_chat)
    assert any("usage" in chunk and chunk["usage"] for chunk in chunks) == has_usage


def _events(source: ByteSource, *, is_chat: bool) -> list[Event]:
    events: list[Event] = []
    calls: dict[int, int] = {}
    for _ in range(source.number(20)):
        choice = source.number(_CHOICES - 1)
        match source.number(4):
            case 0 if is_chat:
                events.append(ReasoningDelta(choice, source.text(_PARTS, 6)))
            case 1 if is_chat:
                calls[choice] = calls.get(choice, -1) + 1
                events.append(ToolCallStarted(choice, calls[choice], "call_1", source.text(_PARTS, 3)))
            case 2 if choice in calls:
                events.append(ToolCallDelta(choice, calls[choice], source.text(_PARTS, 6)))
            case _:
                events.append(TextDelta(choice, source.text(_PARTS, 8)))
    usage = Usage(prompt_tokens=3, completion_tokens=2)
    return [*events, *(Finished(choice, "stop", usage) for choice in range(_CHOICES))]


def _read(pieces: list[bytes]) -> list[dict[str, Any]]:
    """As a client reads that follows the standard: lines end at CR, LF or both, events at an empty line."""
    text = b"".join(pieces).decode()
    assert "\r" not in text, "a client would see a line end"
    found: list[dict[str, Any]] = []
    for event in text.split("\n\n")[:-1]:
        (line,) = event.split("\n")
        field, _, value = line.partition(": ")
        assert field == "data"
        if value != "[DONE]":
            found.append(json.loads(value))
    return found


Told = dict[int, tuple[str, str, dict[int, tuple[str, str]]]]
"""By choice: text, reasoning, and calls as name and arguments."""


def _told(chunks: list[dict[str, Any]]) -> Told:
    told: Told = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            text, thought, calls = told.setdefault(choice["index"], ("", "", {}))
            delta = choice.get("delta", {})
            text += choice.get("text") or delta.get("content") or ""
            thought += delta.get("reasoning_content") or ""
            for part in delta.get("tool_calls", ()):
                name, arguments = calls.get(part["index"], ("", ""))
                function = part["function"]
                calls[part["index"]] = (
                    name + (function.get("name") or ""),
                    arguments + (function.get("arguments") or ""),
                )
            told[choice["index"]] = (text, thought, calls)
    return told


def _meant(events: list[Event], *, is_chat: bool) -> Told:
    meant: Told = {choice: ("", "", {}) for choice in range(_CHOICES)}
    for event in events:
        match event:
            case TextDelta(choice=choice, text=more):
                text, thought, calls = meant[choice]
                meant[choice] = (text + more, thought, calls)
            case ReasoningDelta(choice=choice, text=more):
                text, thought, calls = meant[choice]
                meant[choice] = (text, thought + more, calls)
            case ToolCallStarted(choice=choice, index=index, name=name):
                meant[choice][2][index] = (name, "")
            case ToolCallDelta(choice=choice, index=index, text=more):
                name, arguments = meant[choice][2][index]
                meant[choice][2][index] = (name, arguments + more)
            case _:
                pass
    return meant


TARGET = Target(
    "sse",
    "a client that follows the standard reads out of the stream what was put in, whatever the text holds",
    check,
    seeds=(bytes(range(200)), b"\x01\x01\x01\x90\x91\x92\x05" + bytes(range(140, 190)) * 2),
    words=tuple(part.encode() for part in _PARTS),
)
