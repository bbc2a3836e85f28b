"""Gemma: calls like ``call:name{key:value}``, in which texts stand between marks instead of quotes.

FunctionGemma and Gemma 4 differ in their markers alone. Gemma 3 was never taught a notation: it uses the general one.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence

from engine.constraint.schema_check import Json
from engine.errors import InvalidRequest
from generation.tools.offered_tool import OfferedTool
from generation.tools.parser import Reading, ToolParser
from generation.tools.tool_format import ToolFormat, any_of, quoted, repeated

_KEY = r"/[a-zA-Z0-9_\-]+/"
_NUMBER = r"/-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/"
_INTEGER = r"/-?(0|[1-9][0-9]*)/"
_KNOWN = {
    *("type", "properties", "required", "items", "enum", "const", "additionalProperties"),
    *("title", "description", "default", "examples", "$schema"),
}
_KEY_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


class Gemma(ToolFormat):
    def __init__(self, opening: str, closing: str, quote: str) -> None:
        self.markers = (opening, closing, quote)  # type: ignore[misc]  # the two generations differ in it

    def rules(
        self, tools: Sequence[OfferedTool], schemas: list[tuple[str, str]], *, is_parallel: bool
    ) -> str:
        bodies = [
            f"{quoted(f'call:{tool.name}')} {_Writer(tool).value(json.loads(tool.parameters))}"
            for tool in tools
        ]
        rest = repeated("call %marker1", "%marker0", is_parallel=is_parallel)
        return "\n".join(
            [
                f"rest: {rest}",
                any_of("call", bodies),
                f"NUMBER: {_NUMBER}",
                f"INTEGER: {_INTEGER}",
                "string: %marker2 %head2",
            ]
        )

    def parser(self, tools: Sequence[OfferedTool]) -> GemmaParser:
        return GemmaParser(*self.markers)


class _Writer:
    """The part of JSON Schema that this notation can write; the rest is refused."""

    def __init__(self, tool: OfferedTool) -> None:
        self._tool = tool

    def value(self, schema: Json) -> str:
        """What ``schema`` allows, as the body of a rule."""
        if not isinstance(schema, dict):
            raise self._refusal("a schema that is no object is not served")
        if unknown := schema.keys() - _KNOWN:
            raise self._refusal(f"the keyword '{min(unknown)}' is not served")
        if "const" in schema or "enum" in schema:
            values = [schema["const"]] if "const" in schema else schema["enum"]
            if not isinstance(values, list) or not values:
                raise self._refusal("'enum' must be a list of values")
            return f"({' | '.join(map(self._constant, values))})"
        match schema.get("type"):
            case "object":
                return self._object(schema)
            case "array":
                item = self.value(schema.get("items", {"type": "string"}))
                return f'"[" ({item} ("," {item})*)? "]"'
            case "string":
                return "string"
            case "integer":
                return "INTEGER"
            case "number":
                return "NUMBER"
            case "boolean":
                return '("true" | "false")'
            case "null":
                return '"null"'
            case list() as types if types:
                return f"({' | '.join(self.value(schema | {'type': each}) for each in types)})"
            case _:
                raise self._refusal("a value without a type is not served")

    def _object(self, schema: dict[str, Json]) -> str:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise self._refusal("'properties' must be an object, and 'required' a list")
        for name in (*properties, *required):
            if not isinstance(name, str) or not name or not _KEY_CHARACTERS.issuperset(name):
                raise self._refusal(f"the argument '{name}' is not served")
            if name not in properties:
                raise self._refusal(f"'{name}', required and not in 'properties', is not served")
        # A comma stands before all but the first: with required keys in front, one of those is first.
        ordered = sorted(properties, key=lambda name: name not in required)
        pairs = [f"{quoted(f'{name}:')} {self.value(properties[name])}" for name in ordered]
        count = sum(name in required for name in ordered)
        if count:
            inner = ' "," '.join(pairs[:count]) + "".join(f' ("," {pair})?' for pair in pairs[count:])
        else:
            # Whichever is first, those behind it may follow.
            starts = [
                pair + "".join(f' ("," {later})?' for later in pairs[index + 1 :])
                for index, pair in enumerate(pairs)
            ]
            inner = f"({' | '.join(starts)})?" if starts else ""
        return f'"{{" {inner} "}}"'

    def _constant(self, value: Json) -> str:
        match value:
            case str():
                return f"%marker2 {quoted(value)} %marker2" if value else "%marker2 %marker2"
            case None | bool() | int() | float():
                return quoted(json.dumps(value))
            case _:
                raise self._refusal("'enum' and 'const' of lists and objects are not served")

    def _refusal(self, why: str) -> InvalidRequest:
        param = self._tool.param
        return InvalidRequest(
            f"'{param}': {why} in the notation of this model's tool calls;"
            " the setting tool_format names another notation.",
            param=param,
        )


class GemmaParser(ToolParser):
    def __init__(self, opening: str, closing: str, quote: str) -> None:
        super().__init__()
        self._opening, self._closing, self._quote = opening, closing, quote

    def _read(self) -> Reading:
        marker = yield from self._text(self._opening)
        while marker:
            self.is_unfinished = True
            yield from self._take("call:")
            if (name := (yield from self._until("{"))) is None:
                return
            self._start(name.strip())
            self._arguments("{")
            if not (yield from self._rest_of_object()):
                return
            self.is_unfinished = not (yield from self._take(self._closing))
            yield from self._blanks()
            marker = yield from self._take(self._opening)

    def _rest_of_object(self) -> Generator[None, None, bool]:
        """Turn what follows a ``{`` into JSON, up to its ``}``; whether that came."""
        open_brackets = ["}"]
        is_key = True
        while open_brackets:
            if (yield from self._take(self._quote)):
                if not (yield from self._string(self._quote)):
                    return False
                continue
            yield from self._some()
            if not self._buffer:
                return False
            character, self._buffer = self._buffer[0], self._buffer[1:]
            if character in "{[":
                open_brackets.append("}" if character == "{" else "]")
                is_key = character == "{"
                self._arguments(character)
            elif character in "}]":
                open_brackets.pop()
                is_key = False
                self._arguments(character)
            elif character == ",":
                is_key = open_brackets[-1] == "}"
                self._arguments(", ")
            elif is_key:
                rest = yield from self._until(":")
                if rest is None:
                    return False
                self._arguments(json.dumps((character + rest).strip()) + ": ")
                is_key = False
            else:
                self._arguments(character)
        return True

    def _some(self) -> Reading:
        while not self._buffer and not self._is_over:
            yield
