"""Qwen3-Coder: each argument in a tag of its own, text as it stands and everything else as JSON."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from typing import NoReturn

from engine.constraint.schema_check import Json
from engine.errors import InvalidRequest
from generation.tools.offered_tool import OfferedTool
from generation.tools.parser import Reading, ToolParser
from generation.tools.tool_format import ToolFormat, any_of, quoted, repeated

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_FUNCTION, _FUNCTION_END = "<function=", "</function>"
_PARAMETER, _PARAMETER_END = "<parameter=", "\n</parameter>"
_MEANS_NOTHING = {"type", "title", "description", "default", "examples", "enum", "const"}
_NAMED = ("$defs", "definitions")


class Qwen3Coder(ToolFormat):
    markers = (OPEN, CLOSE)

    def rules(
        self, tools: Sequence[OfferedTool], schemas: list[tuple[str, str]], *, is_parallel: bool
    ) -> str:
        lines: list[str] = []
        bodies = [self._body(tool, index, schemas, lines) for index, tool in enumerate(tools)]
        rest = repeated('"\\n" call "\\n" %marker1', '"\\n" %marker0', is_parallel=is_parallel)
        return "\n".join([f"rest: {rest}", any_of("call", bodies), *lines])

    def _body(self, tool: OfferedTool, index: int, schemas: list[tuple[str, str]], lines: list[str]) -> str:
        parameters = _parameters(tool)
        required = _required(tool, parameters)
        parts = [quoted(f"{_FUNCTION}{tool.name}>\n")]
        for number, (name, schema) in enumerate(parameters.items()):
            rule = f"parameter{index}x{number}"
            head = quoted(f"{_PARAMETER}{name}>\n")
            if not _is_text(schema):
                lines.append(f"{rule}: {head} %schema{len(schemas)} {quoted(_PARAMETER_END + chr(10))}")
                schemas.append((json.dumps(_with_definitions(schema, tool)), tool.param))
            elif (values := _values(schema)) is not None:
                if not values or any(_PARAMETER_END in value for value in values):
                    _refuse(tool, f"the values of '{name}' cannot be written in this model's notation")
                choices = " | ".join(quoted(value) for value in values)
                lines.append(f"{rule}: {head} ({choices}) {quoted(_PARAMETER_END + chr(10))}")
            else:
                if unknown := schema.keys() - _MEANS_NOTHING:
                    _refuse(tool, f"'{min(unknown)}' of the text '{name}' is not served")
                lines.append(f"{rule}: {head} {rule}v")
                lines.append(f"{rule}v[lazy]: /(?s:.*)\\n<\\/parameter>\\n/")
            parts.append(rule if name in required else f"{rule}?")
        return " ".join([*parts, quoted(_FUNCTION_END)])

    def parser(self, tools: Sequence[OfferedTool]) -> Qwen3CoderParser:
        texts = {
            (tool.name, name)
            for tool in tools
            for name, schema in _parameters(tool).items()
            if _is_text(schema)
        }
        return Qwen3CoderParser(texts)


def _refuse(tool: OfferedTool, why: str) -> NoReturn:
    hint = "the setting tool_format names another notation"
    raise InvalidRequest(
        f"'{tool.param}': {why} in the notation of this model's tool calls; {hint}.", param=tool.param
    )


def _schema(tool: OfferedTool) -> dict[str, Json]:
    schema = json.loads(tool.parameters)
    if not isinstance(schema, dict):
        _refuse(tool, "a schema that is no object is not served")
    return schema


def _parameters(tool: OfferedTool) -> dict[str, dict[str, Json]]:
    schema = _schema(tool)
    known = {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "title",
        "description",
        "$schema",
        *_NAMED,
    }
    if unknown := schema.keys() - known:
        _refuse(tool, f"the keyword '{min(unknown)}' beside the arguments is not served")
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        _refuse(tool, "'properties' must be an object")
    parameters: dict[str, dict[str, Json]] = {}
    for name, parameter in properties.items():
        if not isinstance(parameter, dict) or not name or set(name) & set(">\n\r"):
            _refuse(tool, f"the argument '{name}' is not served")
        parameters[name] = parameter
    return parameters


def _required(tool: OfferedTool, parameters: dict[str, dict[str, Json]]) -> list[str]:
    required = _schema(tool).get("required", [])
    names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    if missing := [name for name in names if name not in parameters]:
        _refuse(tool, f"'{missing[0]}' is required and not in 'properties', which")
    return names


def _is_text(schema: dict[str, Json]) -> bool:
    values = _values(schema)
    return schema.get("type") == "string" or (
        "type" not in schema and bool(values) and all(isinstance(value, str) for value in values or ())
    )


def _values(schema: dict[str, Json]) -> list[str] | None:
    """The texts that ``enum`` or ``const`` leave, None where any will do."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else None


def _with_definitions(schema: dict[str, Json], tool: OfferedTool) -> dict[str, Json]:
    root = _schema(tool)
    return schema | {name: root[name] for name in _NAMED if name in root}


class Qwen3CoderParser(ToolParser):
    def __init__(self, texts: set[tuple[str, str]]) -> None:
        """``texts`` are the arguments, by function and name, that are written without quotes."""
        super().__init__()
        self._texts = texts

    def _read(self) -> Reading:
        marker = yield from self._text(OPEN)
        while marker:
            self.is_unfinished = True
            yield from self._blanks()
            if not (yield from self._take(_FUNCTION)):
                return
            if (function := (yield from self._until(">"))) is None:
                return
            self._start(function)
            self._arguments("{")
            yield from self._blanks()
            is_first = True
            while (yield from self._take(_PARAMETER)):
                if (name := (yield from self._until(">\n"))) is None:
                    return
                self._arguments(f"{'' if is_first else ', '}{json.dumps(name, ensure_ascii=False)}: ")
                is_first = False
                if not (yield from self._value(is_text=(function, name) in self._texts)):
                    return
                yield from self._blanks()
            if not (yield from self._take(_FUNCTION_END)):
                return
            self._arguments("}")
            yield from self._blanks()
            self.is_unfinished = not (yield from self._take(CLOSE))
            yield from self._blanks()
            marker = yield from self._take(OPEN)

    def _value(self, *, is_text: bool) -> Generator[None, None, bool]:
        """Pass one value on, text as a JSON string; whether it was whole."""
        if is_text:
            return (yield from self._string(_PARAMETER_END))
        if (value := (yield from self._until(_PARAMETER_END))) is None:
            return False
        self._arguments(value)
        return True
