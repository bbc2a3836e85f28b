"""What models of each family write when they call tools, and what is to be read out of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from engine.config import ToolFormatChoice
from generation.tools.formats import FORMATS
from generation.tools.offered_tool import OfferedTool
from generation.tools.parser import CallArguments, CallStarted, Parsed, Text, ToolParser

Call = tuple[str, str]
Read = tuple[str, list[Call], bool]
"""Text, calls as name and arguments, and whether the last is unfinished."""

TOOLS = (
    OfferedTool(
        "look",
        json.dumps(
            {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "unit": {"enum": ["°C", "°F"]},
                },
                "required": ["city"],
            }
        ),
        "tools[0].function.parameters",
    ),
    OfferedTool("now", '{"type": "object", "properties": {}}', "tools[1].function.parameters"),
)

ARGUMENTS = '{"city": "Kö\\"ln\\\\", "days": 3}'
BOTH: list[Call] = [("look", ARGUMENTS), ("now", "{}")]

_HERMES = f'<tool_call>\n{{"name": "look", "arguments": {ARGUMENTS}}}\n</tool_call>'
_DS_ALL, _DS_CALL, _DS_SEP, _DS_END, _DS_ALL_END = (
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
)

WRITTEN: dict[ToolFormatChoice, str] = {
    "hermes": f'{_HERMES}\n<tool_call>\n{{"name": "now", "arguments": {{}}}}\n</tool_call>',
    "general": f'{_HERMES}\n<tool_call>\n{{"name": "now", "arguments": {{}}}}\n</tool_call>',
    "llama3": (
        f'<|python_tag|>{{"name": "look", "parameters": {ARGUMENTS}}}; {{"name": "now", "parameters": {{}}}}'
    ),
    "mistral": (
        f'[TOOL_CALLS][{{"name": "look", "arguments": {ARGUMENTS}}}, {{"name": "now", "arguments": {{}}}}]'
    ),
    "mistral_args": f"[TOOL_CALLS]look[ARGS]{ARGUMENTS}[TOOL_CALLS]now[CALL_ID]123456789[ARGS]{{}}",
    "qwen3_coder": (
        '<tool_call>\n<function=look>\n<parameter=city>\nKö"ln\\\n</parameter>\n<parameter=days>\n3\n</parameter>\n'
        "</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>"
    ),
    "deepseek": (
        f"{_DS_ALL}{_DS_CALL}function{_DS_SEP}look\n```json\n{ARGUMENTS}\n```{_DS_END}\n"
        f"{_DS_CALL}function{_DS_SEP}now\n```json\n{{}}\n```{_DS_END}{_DS_ALL_END}"
    ),
    "deepseek_v31": (
        f"{_DS_ALL}{_DS_CALL}look{_DS_SEP}{ARGUMENTS}{_DS_END}{_DS_CALL}now{_DS_SEP}{{}}{_DS_END}{_DS_ALL_END}"
    ),
    "gemma": (
        '<start_function_call>call:look{city:<escape>Kö"ln\\<escape>,days:3}<end_function_call>'
        "<start_function_call>call:now{}<end_function_call>"
    ),
    "gemma4": (
        '<|tool_call>call:look{city:<|"|>Kö"ln\\<|"|>,days:3}<tool_call|><|tool_call>call:now{}<tool_call|>'
    ),
    "harmony": (
        f"<|start|>assistant<|channel|>commentary to=functions.look <|constrain|>json<|message|>{ARGUMENTS}<|call|>"
        "<|start|>assistant<|channel|>commentary to=functions.now<|message|>{}<|call|>"
    ),
}

NAMES = sorted(WRITTEN)


def parser(name: ToolFormatChoice, tools: Sequence[OfferedTool] = TOOLS) -> ToolParser:
    return FORMATS[name].parser(tools)


def read(parser: ToolParser, pieces: Iterable[str]) -> Read:
    parsed: list[Parsed] = []
    for piece in pieces:
        parsed += parser.feed(piece)
    parsed += parser.finish()
    return joined(parsed, is_unfinished=parser.is_unfinished)


def joined(parsed: Iterable[Parsed], *, is_unfinished: bool) -> Read:
    text = ""
    calls: list[Call] = []
    for item in parsed:
        match item:
            case Text(text=more):
                assert more, "empty parts"
                text += more
            case CallStarted(index=index, name=name):
                assert index == len(calls), "calls are numbered in their order"
                calls.append((name, ""))
            case CallArguments(index=index, text=more):
                assert index == len(calls) - 1
                assert more, "empty parts"
                calls[-1] = (calls[-1][0], calls[-1][1] + more)
    return text, calls, is_unfinished
