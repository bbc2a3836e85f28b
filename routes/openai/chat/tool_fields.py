"""The tool fields of a chat body to what the model is told of, and what it may call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

from engine.constraint.spec import JsonObject, JsonSchema
from engine.errors import InternalError, InvalidRequest
from engine.prompt import Tool
from generation.request import ToolUse
from generation.tools.offered_tool import OfferedTool
from routes.openai.chat.body import ChatCompletionBody
from routes.openai.chat.tools import (
    AllowedChoice,
    CustomTool,
    FunctionTool,
    NamedChoice,
    NamedFunction,
    Tools,
)

_NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}
"""What a function takes whose ``parameters`` are left out: nothing, by OpenAI's specification."""


def told_tools(body: ChatCompletionBody) -> tuple[Tool, ...]:
    """Every tool of the request; none where the model is to call none."""
    if _mode(body) == "none":
        return ()
    if body.functions is not None:
        return tuple(
            Tool(name=each.name, description=each.description, parameters=_json(each.parameters))
            for each in body.functions
        )
    return told_functions(body.tools)


def told_functions(tools: Tools | None) -> tuple[Tool, ...]:
    """What the model is told of ``tools``."""
    return tuple(
        Tool(
            name=tool.function.name,
            description=tool.function.description,
            parameters=_json(tool.function.parameters),
            is_strict=tool.function.strict,
        )
        for tool in _functions(tools)
    )


def tool_use(body: ChatCompletionBody) -> ToolUse | None:
    """Which tools may be called, None if none. Raises InvalidRequest for fields that contradict each other."""
    _check_dialect(body)
    _check_names(body)
    offered = _offered(body)
    mode, names = _mode(body), _chosen(body)
    param = "function_call" if body.functions is not None else "tool_choice"
    if not offered:
        if mode == "required":
            _refuse(param, "there are no tools to choose from.")
        return None
    known = {tool.name for tool in offered}
    if missing := [name for name in names or () if name not in known]:
        _refuse(param, f"no tool of the request is named '{missing[0]}'.")
    if mode == "none":
        return None
    for other in ("ignore_eos", "min_tokens", "json_schema", "grammar", "regex", "lark"):
        if getattr(body, other):
            _refuse(other, f"the form of the answer follows from '{_field(body)}'; send one or the other.")
    if mode == "required" and body.stop_strings:
        # They are looked for in all that a model writes, and there would be nothing but calls to cut.
        _refuse("stop", f"would cut the call that '{param}' demands; send one or the other.")
    is_named = isinstance(body.tool_choice, NamedChoice) or body.functions is not None
    return ToolUse(
        tools=tuple(tool for tool in offered if names is None or tool.name in names),
        is_required=mode == "required",
        is_parallel=not is_named and body.parallel_tool_calls is not False,
        is_legacy=body.functions is not None,
        text_schema=_text_schema(body),
    )


def _field(body: ChatCompletionBody) -> str:
    return "functions" if body.functions is not None else "tools"


def _offered(body: ChatCompletionBody) -> list[OfferedTool]:
    if body.functions is not None:
        if body.tools:
            _refuse("functions", "'tools' are given as well; send those.")
        return [
            OfferedTool(each.name, _json(each.parameters), f"functions[{index}].parameters")
            for index, each in enumerate(body.functions)
        ]
    return [
        OfferedTool(
            tool.function.name, _json(tool.function.parameters), f"tools[{index}].function.parameters"
        )
        for index, tool in enumerate(_functions(body.tools))
    ]


def _functions(offered: Tools | None) -> list[FunctionTool]:
    tools: list[FunctionTool] = []
    for tool in offered or ():
        if isinstance(tool, CustomTool):
            raise InternalError("a tool that is refused was accepted")
        tools.append(tool)
    return tools


def _check_dialect(body: ChatCompletionBody) -> None:
    """A field that chooses among the tools of the other dialect would be ignored, even where it only forbids them."""
    if body.functions is not None:
        for name in ("tool_choice", "parallel_tool_calls"):
            if getattr(body, name) is not None:
                _refuse(name, "is for 'tools', and 'functions' are given.")
    elif body.tools and body.function_call is not None:
        _refuse("function_call", "is for 'functions', and 'tools' are given.")
    elif body.function_call not in (None, "none", "auto"):
        _refuse("function_call", "there are no 'functions' to choose from.")


def _check_names(body: ChatCompletionBody) -> None:
    inner = "" if body.functions is not None else ".function"
    check_names([tool.name for tool in _offered(body)], _field(body), f"{inner}.name")


def check_names(names: Sequence[str], field: str, inner: str) -> None:
    """Raises InvalidRequest for a name that is there twice, and tells where ``inner`` of ``field`` holds it."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            _refuse(f"{field}[{index}]{inner}", f"another tool is named '{name}' already.")
        seen.add(name)


def _mode(body: ChatCompletionBody) -> str:
    choice = body.function_call if body.functions is not None else body.tool_choice
    match choice:
        case None:
            return "auto"
        case NamedChoice() | NamedFunction():
            return "required"
        case AllowedChoice(allowed_tools=allowed):
            return allowed.mode
        case str():
            return choice
        case CustomTool():
            raise InternalError("a choice that is refused was accepted")


def _chosen(body: ChatCompletionBody) -> Sequence[str] | None:
    """The names that may be called, None for all."""
    match body.function_call if body.functions is not None else body.tool_choice:
        case NamedChoice(function=function):
            return (function.name,)
        case NamedFunction(name=name):
            return (name,)
        case AllowedChoice(allowed_tools=allowed):
            return tuple(tool.function.name for tool in allowed.tools)
        case _:
            return None


def _text_schema(body: ChatCompletionBody) -> tuple[str, str] | None:
    constraint = body.constraint()
    match constraint.spec if constraint else None:
        case JsonSchema(schema=schema):
            return schema, "response_format"
        case JsonObject():
            return '{"type": "object"}', "response_format"
        case _:
            return None


def _json(parameters: dict[str, Any] | None) -> str:
    return json.dumps(_NO_PARAMETERS if parameters is None else parameters)


def _refuse(param: str, why: str) -> NoReturn:
    raise InvalidRequest(f"'{param}': {why}", param=param)
