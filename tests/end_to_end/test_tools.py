"""Tool calls of the bundled model, whose template knows nothing of tools, through the official client."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openai
import pytest

from tests.end_to_end.live_server import MODEL

pytestmark = pytest.mark.model

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
    },
    "required": ["city", "unit", "days"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
CLOCK: Any = {"type": "function", "function": {"name": "clock", "description": "Tells the time."}}
ASKED: Any = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "How is the weather in Paris in the next 3 days?"}],
    "tools": [WEATHER, CLOCK],
    "temperature": 0,
    "max_tokens": 120,
}
NAMED: Any = {"type": "function", "function": {"name": "weather"}}


def test_a_named_tool_is_called_once_and_its_arguments_fit(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(**ASKED, tool_choice=NAMED).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "weather"
    jsonschema.validate(json.loads(call.function.arguments), PARAMETERS)


def test_a_required_call_streamed_equals_whole(client: openai.OpenAI) -> None:
    asked = {**ASKED, "tool_choice": "required", "parallel_tool_calls": False}
    whole = client.chat.completions.create(**asked).choices[0].message.tool_calls
    with client.chat.completions.stream(**asked) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    streamed = final.message.tool_calls
    assert whole
    assert streamed
    assert [_parts(call) for call in streamed] == [_parts(call) for call in whole]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_drawn_is_called_rightly(client: openai.OpenAI, seed: int) -> None:
    asked = {**ASKED, "temperature": 1.5, "seed": seed, "tool_choice": NAMED}
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    jsonschema.validate(json.loads(_parts(choice.message.tool_calls[0])[1]), PARAMETERS)


def test_left_to_itself_it_may_answer_in_words_and_read_results(client: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "12:34"},
    ]
    choice = client.chat.completions.create(**{**ASKED, "messages": messages}).choices[0]
    for each in choice.message.tool_calls or ():
        if choice.finish_reason == "tool_calls":
            json.loads(_parts(each)[1])
    assert choice.message.content or choice.message.tool_calls


def test_a_schema_that_cannot_be_enforced_is_named(client: openai.OpenAI) -> None:
    bad: Any = {"type": "function", "function": {"name": "bad", "parameters": {"type": "no such type"}}}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{**ASKED, "tools": [WEATHER, bad]})
    assert caught.value.param in ("tools", "tools[1].function.parameters")


def _parts(call: Any) -> tuple[str, str]:  # the client has a type for each of its ways
    return call.function.name, call.function.arguments
