"""Messages and tools in the shape that chat templates read, which is OpenAI's, with every string passed through
one function: the one that keeps a user's text from being obeyed.

Templates differ in three points, so each one is tried out (``CallStyle``): whether arguments come as an object or
as JSON text, whether the content beside calls is empty or null, and how long the id of a call is.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.constraint.schema_check import Json
from engine.prompt import ChatMessage, Tool, ToolCall

Mark = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class CallStyle:
    """How a template wants the messages that hold tool calls."""

    has_object_arguments: bool = True
    """As transformers gives them; some templates join them to strings instead, and want text."""
    has_null_content: bool = False
    """Some show calls only where the content beside them is null."""
    has_short_ids: bool = False
    """Mistral's refuse every id that is not nine letters and digits."""


CALL_STYLES = tuple(
    CallStyle(has_object_arguments=objects, has_null_content=null, has_short_ids=short)
    for short, objects, null in itertools.product((False, True), (True, False), (False, True))
)
"""In the order in which they are tried."""

_SHORT_ID = 9
_NAME, _KEY, _VALUE, _ID = "probe_name", "probe_key", "probe_value", "call_probe"
PROBE = (
    ChatMessage(role="user", content="probe"),
    ChatMessage(
        role="assistant",
        content=None,
        tool_calls=(ToolCall(id=_ID, name=_NAME, arguments=json.dumps({_KEY: _VALUE})),),
    ),
    ChatMessage(role="tool", content="probe", name=_NAME, tool_call_id=_ID),
)


NAMED_PROBE = (ChatMessage(role="user", content="probe", name=_NAME),)


def shows_name(text: str) -> bool:
    """Whether ``NAMED_PROBE`` was rendered with the name of who speaks."""
    return _NAME in text


def with_name_said(message: ChatMessage) -> ChatMessage:
    """``message`` with the name of who speaks at the head of what is said; a result of a tool has its call for that."""
    if message.name is None or message.content is None or message.role == "tool":
        return message
    return msgspec.structs.replace(message, content=f"{message.name}: {message.content}", name=None)


def fits_probe(text: str) -> bool:
    """Whether ``PROBE`` was rendered to what a model can read: the whole call, and nothing in Python's notation."""
    has_all = all(part in text for part in (_NAME, _KEY, _VALUE))
    is_python = f"{{'{_KEY}'" in text or "None" in text
    is_quoted_twice = f'\\\\"{_KEY}' in text
    return has_all and not is_python and not is_quoted_twice


def message_fields(message: ChatMessage, style: CallStyle, mark: Mark) -> dict[str, Any]:
    """``message`` as a template reads it; fields that it does not have are absent."""
    content = message.content
    if content is None and not style.has_null_content:
        content = ""
    fields: dict[str, Any] = {
        "role": mark(message.role),
        "content": None if content is None else mark(content),
    }
    if message.name is not None:
        fields["name"] = mark(message.name)
    if message.reasoning is not None:
        # Qwen's and most others' name, and gpt-oss's.
        fields["reasoning_content"] = fields["thinking"] = mark(message.reasoning)
    if message.tool_call_id is not None:
        fields["tool_call_id"] = mark(_id(message.tool_call_id, style))
    if message.tool_calls:
        fields["tool_calls"] = [_call_fields(call, style, mark) for call in message.tool_calls]
    return fields


def tool_fields(tool: Tool, mark: Mark) -> dict[str, Any]:
    """``tool`` as a template reads it."""
    function: dict[str, Any] = {"name": mark(tool.name)}
    if tool.description is not None:
        function["description"] = mark(tool.description)
    function["parameters"] = _marked(json.loads(tool.parameters), mark)
    if tool.is_strict is not None:
        function["strict"] = tool.is_strict
    return {"type": "function", "function": function}


def _call_fields(call: ToolCall, style: CallStyle, mark: Mark) -> dict[str, Any]:
    arguments = (
        _marked(json.loads(call.arguments), mark) if style.has_object_arguments else mark(call.arguments)
    )
    return {
        "id": mark(_id(call.id, style)),
        "type": "function",
        "function": {"name": mark(call.name), "arguments": arguments},
    }


def _id(given: str, style: CallStyle) -> str:
    """The id as the template takes it; the same one each time, so that a result still finds its call."""
    if not style.has_short_ids or (len(given) == _SHORT_ID and given.isalnum()):
        return given
    return hashlib.sha256(given.encode()).hexdigest()[:_SHORT_ID]


def _marked(value: Json, mark: Mark) -> Json:
    """``value``, a JSON tree, with every string in it marked, keys too."""
    match value:
        case str():
            return mark(value)
        case list():
            return [_marked(item, mark) for item in value]
        case dict():
            return {mark(key): _marked(item, mark) for key, item in value.items()}
        case _:
            return value
