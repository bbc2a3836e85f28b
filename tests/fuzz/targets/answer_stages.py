"""An answer on its way to the client: reasoning split off, then calls read, in one chain."""

from __future__ import annotations

from generation.chain import Chain, Stage
from generation.events import Delta, ReasoningDelta, TextDelta, ToolCallDelta, ToolCallStarted
from generation.reasoning.harmony import HarmonyReader
from generation.reasoning.tags import TagReader
from generation.tools.formats import FORMATS
from generation.tools.tool_reader import ToolReader
from tests.fuzz.byte_source import ByteSource, cut
from tests.fuzz.target import Target
from tests.generation.tools.written import NAMES, TOOLS

_PARTS = (
    *("<think>", "</think>", "<thi", "nk>", "</", "\n", " ", "x", "<tool_call>", "</tool_call>", "{", "}"),
    *("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "analysis", "final", "commentary"),
    *(" to=functions.look", "assistant", "<|constrain|>", "json", '{"name": "look", "arguments": {"city": "'),
)


def _chain(source: ByteSource) -> Chain:
    name = source.choice(NAMES)
    is_inside, calls, reasons = (bool(source.number(1)) for _ in range(3))
    stages: list[Stage] = []
    if name == "harmony":
        opening = "<|start|>assistant" + ("<|channel|>analysis<|message|>" if is_inside else "")
        stages.append(HarmonyReader(0, opening=opening, keeps_calls=calls))
    elif reasons:
        stages.append(TagReader(0, "<think>", "</think>", is_inside=is_inside))
    if calls:
        stages.append(ToolReader(0, FORMATS[name].parser(TOOLS), is_legacy=False))
    return Chain(stages)


Told = tuple[str, str, list[tuple[str, str]], int]
"""Text, reasoning, calls as name and arguments, and tokens."""


def _read(chain: Chain, pieces: list[str]) -> Told:
    deltas: list[Delta] = [delta for piece in pieces for delta in chain.add(TextDelta(0, piece, 0))]
    deltas += chain.end()
    text = thought = ""
    calls: list[tuple[str, str]] = []
    tokens = 0
    for delta in deltas:
        match delta:
            case TextDelta():
                text, tokens = text + delta.text, tokens + delta.tokens
            case ReasoningDelta():
                thought, tokens = thought + delta.text, tokens + delta.tokens
            case ToolCallStarted():
                calls.append((delta.name, ""))
            case ToolCallDelta():
                calls[delta.index] = (calls[delta.index][0], calls[delta.index][1] + delta.text)
    return text, thought, calls, tokens


def check(data: bytes) -> None:
    source = ByteSource(data)
    shape = source.take(4)
    at = [source.number(255) for _ in range(source.number(16))]
    whole = source.text(_PARTS, 60)
    pieces = cut(whole, sorted(min(each, len(whole)) for each in at))
    told = _read(_chain(ByteSource(shape)), pieces)
    assert told == _read(_chain(ByteSource(shape)), [whole]), "it depends on the cuts"
    assert told == _read(_chain(ByteSource(shape)), list(whole)), "it depends on the cuts"
    assert len(told[0]) + len(told[1]) <= len(whole)


TARGET = Target(
    "answer-stages",
    "reasoning, text and calls are the same however the answer is cut, and nothing is told twice",
    check,
    seeds=tuple(
        bytes([number, 0, 1, 1, 3, 5, 9, 20]) + bytes(range(144, 175)) for number in range(len(NAMES))
    ),
    words=tuple(bytes([144 + number]) for number in range(len(_PARTS))),
)
