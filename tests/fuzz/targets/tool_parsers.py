"""Tool calls in all notations, read out of whatever a model may write."""

from __future__ import annotations

from engine.config import ToolFormatChoice
from generation.tools.formats import FORMATS
from tests.fuzz.byte_source import ByteSource, cut
from tests.fuzz.target import Target
from tests.generation.tools.written import NAMES, WRITTEN, parser, read

_SHARED = (
    *("look", "now", "city", "days", "unit", "{", "}", "[", "]", '"', "\\", "\\u00", ":", ",", "\n", "```"),
    *('{"name": "', '", "arguments": {', '"parameters"', "call:", "3", "null", "°C", "<", "</", ">", "|"),
)
_MARKUP = ("<function=", "</function>", "<parameter=", "</parameter>", "[CALL_ID]", "json", "assistant")
_PARTS: dict[ToolFormatChoice, tuple[str, ...]] = {
    name: (*FORMATS[name].markers, *_SHARED, *_MARKUP) for name in NAMES
}


def check(data: bytes) -> None:
    source = ByteSource(data)
    name = source.choice(NAMES)
    at = [source.number(255) for _ in range(source.number(16))]
    written = WRITTEN[name]
    # Begun as it should be, half of the time: random markup alone seldom gets into a call.
    head = written[: source.number(min(255, len(written)))] if source.number(1) else ""
    whole = head + source.text(_PARTS[name], 60)
    pieces = cut(whole, sorted(min(each, len(whole)) for each in at))
    told = read(parser(name), pieces)
    assert told == read(parser(name), [whole]), "it depends on the cuts"
    assert told == read(parser(name), whole), "it depends on the cuts"
    text, calls, _ = told
    assert len(text) <= len(whole)
    assert sum(len(arguments) for _, arguments in calls) <= 16 * len(whole) + 16


TARGET = Target(
    "tool-parsers",
    "whatever a model writes, calls and text are read without an error, and the same however it is cut",
    check,
    seeds=tuple(
        bytes([number, 3, 10, 20, 30, 1, 255]) + b"\x95\x96\x97\x90\x91" for number in range(len(NAMES))
    ),
    words=tuple(bytes([144 + number]) for number in range(40)),
)
