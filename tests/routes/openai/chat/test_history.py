"""Chat histories with tool calls: what templates get to read, and what is refused by its place."""

from __future__ import annotations

import json

import pytest

from engine.errors import NibbleError
from engine.prompt import ChatMessage, ChatPrompt, ToolCall
from routes.json_body import validate
from routes.openai.chat.body import ChatCompletionBody
from routes.openai.chat.parse import parse

Message = dict[str, object]

USER: Message = {"role": "user", "content": "Weather?"}


def call(call_id: str = "call_1", name: str = "weather", arguments: str = '{"city": "Bonn"}') -> Message:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def called(*calls: Message, **fields: object) -> Message:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **fields}


def result(call_id: str = "call_1", content: object = "sunny") -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def read(*messages: Message) -> tuple[ChatMessage, ...]:
    raw = json.dumps({"model": "m", "messages": [USER, *messages]}).encode()
    request = parse(validate(raw, ChatCompletionBody, strict=True).value, "")
    (prompt,) = request.prompts
    assert isinstance(prompt, ChatPrompt)
    return prompt.messages[1:]


def test_calls_and_their_results_are_kept_and_the_results_named() -> None:
    messages = read(
        called(call(), call("call_2", "time", "{}")),
        result("call_2", [{"type": "text", "text": "noon"}]),
        result("call_1", "sunny"),
    )
    assert messages == (
        ChatMessage(
            role="assistant",
            content=None,
            tool_calls=(
                ToolCall(id="call_1", name="weather", arguments='{"city": "Bonn"}'),
                ToolCall(id="call_2", name="time", arguments="{}"),
            ),
        ),
        ChatMessage(role="tool", content="noon", name="time", tool_call_id="call_2"),
        ChatMessage(role="tool", content="sunny", name="weather", tool_call_id="call_1"),
    )


def test_content_beside_calls_is_kept() -> None:
    (message,) = read(called(call(), content="Let me see."))
    assert (message.content, len(message.tool_calls)) == ("Let me see.", 1)


def test_the_older_function_call_is_a_tool_call_with_an_id_of_its_own() -> None:
    first, second = read(
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
        {"role": "function", "name": "weather", "content": "sunny"},
    )
    assert first.tool_calls[0].name == "weather"
    assert second == ChatMessage(
        role="tool", content="sunny", name="weather", tool_call_id=first.tool_calls[0].id
    )


def test_no_arguments_at_all_are_an_empty_object() -> None:
    (message,) = read(called(call(arguments="")))
    assert message.tool_calls[0].arguments == "{}"


LEGACY: Message = {"name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([called(call(arguments="{"))], "messages[1].tool_calls[0].function.arguments"),
        ([called(call(arguments="[]"))], "messages[1].tool_calls[0].function.arguments"),
        ([called(call(arguments='{"x": NaN}'))], "messages[1].tool_calls[0].function.arguments"),
        ([called(call(arguments="[" * 50_000))], "messages[1].tool_calls[0].function.arguments"),
        ([called(call(name=""))], "messages[1].tool_calls[0].function.name"),
        ([called(call(name="a b"))], "messages[1].tool_calls[0].function.name"),
        ([called(call(call_id=""))], "messages[1].tool_calls[0].id"),
        ([called(call(), call())], "messages[1].tool_calls[1].id"),
        ([called({"id": "c", "function": {"name": "f", "arguments": "{}"}})], "messages[1].tool_calls[0].type"),
        ([called(call() | {"type": "custom"})], "messages[1].tool_calls[0].type"),
        ([called({"id": "c", "type": "function"})], "messages[1].tool_calls[0].function"),
        ([called(call(), function_call=LEGACY)], "messages[1].function_call"),
        ([called(call()), result("call_9")], "messages[2].tool_call_id"),
        ([result()], "messages[1].tool_call_id"),
        ([called(call()), {"role": "tool", "content": "x"}], "messages[2].tool_call_id"),
        ([called(call()), {"role": "tool", "tool_call_id": "call_1"}], "messages[2].content"),
        ([{"role": "function", "name": "weather", "content": "x"}], "messages[1].name"),
        ([called()], "messages[1].content"),
        ([called(call(), refusal="no", content="yes")], "messages[1].refusal"),
        (
            [{"role": "assistant", "content": None, "function_call": LEGACY | {"arguments": "x"}}],
            "messages[1].function_call.arguments",
        ),
    ],
)  # fmt: skip
def test_a_malformed_history_is_refused_by_its_place(messages: list[Message], param: str) -> None:
    with pytest.raises(NibbleError) as caught:
        read(*messages)
    assert getattr(caught.value, "param", None) == param
