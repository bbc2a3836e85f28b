"""The messages of a chat body to canonical ones: roles that fit each other, calls that are whole.

A template would render half a call without a word, and the model would learn from it: so it is a 400 here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NoReturn

from engine.errors import InternalError, InvalidRequest
from engine.prompt import ChatMessage, ToolCall
from routes.openai.chat.message import (
    AssistantMessage,
    CalledFunction,
    CustomCall,
    FunctionCall,
    FunctionMessage,
    InstructionMessage,
    Message,
    ToolMessage,
    UserMessage,
)


def read_history(messages: Sequence[Message]) -> tuple[ChatMessage, ...]:
    """Raises InvalidRequest, naming the message and its field."""
    reader = _History()
    return tuple(reader.read(message, f"messages[{index}]") for index, message in enumerate(messages))


class _History:
    """Reads messages in their order, and keeps the calls that wait for their results."""

    def __init__(self) -> None:
        self._called: dict[str, str] = {}
        """Of every call before: id and name."""
        self._functions: dict[str, str] = {}
        """Of the older kind: name, and the id it was given here."""

    def read(self, message: Message, at: str) -> ChatMessage:
        match message:
            case InstructionMessage() | UserMessage():
                role = "user" if isinstance(message, UserMessage) else "system"
                return ChatMessage(role=role, content=message.text(), name=message.name)
            case AssistantMessage():
                calls = self._calls(message, at)
                return ChatMessage(
                    role="assistant",
                    content=_said(message, at, has_calls=bool(calls)),
                    name=message.name,
                    tool_calls=calls,
                    reasoning=_thought(message, at),
                )
            case ToolMessage(tool_call_id=call_id):
                if call_id not in self._called:
                    _refuse(
                        f"{at}.tool_call_id", f"no assistant message before it has a tool call '{call_id}'."
                    )
                return ChatMessage(
                    role="tool", content=message.text(), name=self._called[call_id], tool_call_id=call_id
                )
            case FunctionMessage(name=name):
                if name not in self._functions:
                    _refuse(f"{at}.name", f"no assistant message before it has a function_call of '{name}'.")
                return ChatMessage(
                    role="tool",
                    content=message.content or "",
                    name=name,
                    tool_call_id=self._functions[name],
                )

    def _calls(self, message: AssistantMessage, at: str) -> tuple[ToolCall, ...]:
        if message.function_call is not None:
            if message.tool_calls:
                _refuse(
                    f"{at}.function_call", "a message has tool_calls or the older function_call, not both."
                )
            function = message.function_call
            call_id = f"call_{len(self._called):09}"
            self._functions[function.name] = call_id
            self._called[call_id] = function.name
            return (_call(call_id, function, f"{at}.function_call"),)
        calls: list[ToolCall] = []
        for index, call in enumerate(message.tool_calls or ()):
            match call:
                case FunctionCall(id=call_id, function=function):
                    place = f"{at}.tool_calls[{index}]"
                    if call_id in self._called:
                        _refuse(f"{place}.id", f"another call has the id '{call_id}' already.")
                    self._called[call_id] = function.name
                    calls.append(_call(call_id, function, f"{place}.function"))
                case CustomCall():
                    raise InternalError("a call that is refused was accepted")
        return tuple(calls)


def _call(call_id: str, function: CalledFunction, at: str) -> ToolCall:
    try:
        arguments = json.loads(function.arguments, parse_constant=_no_constant) if function.arguments else {}
    except (ValueError, RecursionError) as error:
        _refuse(f"{at}.arguments", f"they are no JSON: {error}.")
    if not isinstance(arguments, dict):
        _refuse(f"{at}.arguments", "they are the JSON of an object, as in '{}'.")
    return ToolCall(id=call_id, name=function.name, arguments=function.arguments or "{}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _thought(message: AssistantMessage, at: str) -> str | None:
    told, other = message.reasoning_content, message.reasoning
    if told is not None and other is not None and told != other:
        _refuse(f"{at}.reasoning", "contradicts reasoning_content; send one of them.")
    return other if told is None else told


def _said(message: AssistantMessage, at: str, *, has_calls: bool) -> str | None:
    content = message.text()
    if message.refusal is not None and content is not None:
        _refuse(f"{at}.refusal", "a message has a content or a refusal, not both.")
    if content is None and message.refusal is not None:
        return message.refusal
    if content is None and not has_calls:
        _refuse(f"{at}.content", "may be null only beside tool calls or a refusal.")
    return content


def _refuse(param: str, why: str) -> NoReturn:
    raise InvalidRequest(f"'{param}': {why}", param=param)
