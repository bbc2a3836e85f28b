"""For models whose template knows nothing of tools: they are told in a system message, and answer as Hermes does."""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec

from engine.prompt import ChatMessage, ChatPrompt, Tool, ToolCall
from generation.tools.hermes import CLOSE, OPEN, Hermes

_RESULT, _RESULT_END = "<tool_response>", "</tool_response>"
_INSTRUCTIONS = f"""\
You may call functions to help with the request. These are their signatures, one a line:
<tools>
%s
</tools>
To call a function, write its name and arguments as JSON in tags, like this, and nothing after it:
{OPEN}
{{"name": "<function>", "arguments": {{"<argument>": <value>}}}}
{CLOSE}
Results come in {_RESULT} tags."""


class General(Hermes):
    def prompt(self, prompt: ChatPrompt) -> ChatPrompt:
        if not prompt.tools and not any(each.tool_calls or each.role == "tool" for each in prompt.messages):
            return prompt
        messages = list(_merged(map(_as_text, prompt.messages)))
        if prompt.tools:
            instructions = _INSTRUCTIONS % "\n".join(map(_signature, prompt.tools))
            if messages and messages[0].role == "system":
                instructions = f"{messages.pop(0).content}\n\n{instructions}"
            messages.insert(0, ChatMessage(role="system", content=instructions))
        return msgspec.structs.replace(prompt, messages=tuple(messages), tools=())


def _signature(tool: Tool) -> str:
    function = {"name": tool.name, "parameters": json.loads(tool.parameters)}
    if tool.description is not None:
        function["description"] = tool.description
    return json.dumps(function, ensure_ascii=False)


def _as_text(message: ChatMessage) -> ChatMessage:
    """A message without any field that only templates with tools read."""
    if message.role == "tool":
        return ChatMessage(role="user", content=f"{_RESULT}\n{message.content or ''}\n{_RESULT_END}")
    if message.tool_calls:
        parts = [message.content] if message.content else []
        parts += map(_call_text, message.tool_calls)
        return ChatMessage(role=message.role, content="\n".join(parts), name=message.name)
    return message


def _call_text(call: ToolCall) -> str:
    head = json.dumps({"name": call.name}, ensure_ascii=False)[:-1]
    return f'{OPEN}\n{head}, "arguments": {call.arguments}}}\n{CLOSE}'


def _merged(messages: Iterable[ChatMessage]) -> Iterable[ChatMessage]:
    """Results beside each other become one message: many templates want user and assistant to take turns."""
    last: ChatMessage | None = None
    for message in messages:
        if last is not None and _is_result(last) and message.role == "user":
            message = ChatMessage(role="user", content=f"{last.content}\n{message.content}")
        elif last is not None:
            yield last
        last = message
    if last is not None:
        yield last


def _is_result(message: ChatMessage) -> bool:
    return message.role == "user" and (message.content or "").startswith(_RESULT)
