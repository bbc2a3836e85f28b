"""Tools through the routes: what the engine is asked, and how what it writes is told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.config import ToolFormatChoice
from engine.constraint.spec import ToolGrammar
from engine.prompt import ChatPrompt
from engine.request import EngineRequest
from tests.fakes.engine import FakeEngine, answer
from tests.fakes.house import CHAT_BODY, CHAT_PATH, House, frames
from tests.fakes.specification import validate
from tests.generation.tools.written import ARGUMENTS, BOTH, NAMES, WRITTEN

Json = dict[str, Any]

LOOK: Json = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks out of the window.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
NOW: Json = {"type": "function", "function": {"name": "now"}}
TOOLS = [LOOK, NOW]
FORCED_NOW: Json = {"type": "function", "function": {"name": "now"}}
NOTHING = '{"type": "object", "properties": {}, "additionalProperties": false}'
"""Parameters that are left out."""


def house(*texts: str, tool_format: ToolFormatChoice = "hermes", opening: str = "") -> House:
    engine = FakeEngine(answer(*texts, opening=opening))
    engine.facts = msgspec.structs.replace(engine.facts, tool_format=tool_format)
    return House(engine)


def allowed_look(mode: str) -> Json:
    """The choice of ``look`` alone."""
    tools = [{"type": "function", "function": {"name": "look"}}]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


async def asked(**fields: object) -> EngineRequest:
    """What the engine is asked. A refusal fails the test."""
    made = house("Hello")
    reply = await made.post(CHAT_PATH, CHAT_BODY | fields)
    assert reply.status_code == 200, reply.text
    return made.engine.requests[0]


async def refused(**fields: object) -> tuple[int, str]:
    error = await house("Hello").post(CHAT_PATH, CHAT_BODY | fields)
    return error.status_code, error.json()["error"]["param"]


def message(reply: Json) -> Json:
    validate(reply, "CreateChatCompletionResponse")
    (choice,) = reply["choices"]
    return {**choice["message"], "finish_reason": choice["finish_reason"]}


def reassembled(chunks: list[Json]) -> Json:
    """As clients do it: text is joined, everything else comes once."""
    whole: Json = {"content": None, "calls": []}
    for chunk in chunks:
        validate(chunk, "CreateChatCompletionStreamResponse")
        (choice,) = chunk["choices"]
        delta = choice["delta"]
        if delta.get("content") is not None:
            whole["content"] = (whole["content"] or "") + delta["content"]
        for part in delta.get("tool_calls", ()):
            if part["index"] == len(whole["calls"]):
                assert part["id"].startswith("call_")
                assert part["type"] == "function"
                whole["calls"].append([part["function"]["name"], ""])
            else:
                assert part.keys() == {"index", "function"}
                assert part["function"].keys() == {"arguments"}
            whole["calls"][part["index"]][1] += part["function"]["arguments"]
        if choice["finish_reason"]:
            assert delta == {}
            whole["finish_reason"] = choice["finish_reason"]
    return whole


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("before", ["", "I look.\n"])
async def test_calls_of_every_family_whole_and_streamed(name: ToolFormatChoice, before: str) -> None:
    text, opening = before + WRITTEN[name], ""
    if name == "harmony":
        opening = "<|start|>assistant"
        text = WRITTEN[name].removeprefix(opening)
        if before:
            text = f"<|channel|>commentary<|message|>{before}<|end|>{WRITTEN[name]}"
    made = house(*text, tool_format=name, opening=opening)
    if name == "harmony":
        facts = msgspec.structs.replace(made.engine.facts, reasoning_format="harmony")
        made.engine.facts = facts
    whole = message((await made.post(CHAT_PATH, CHAT_BODY | {"tools": TOOLS})).json())
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in whole["tool_calls"]]
    assert calls == BOTH
    assert len({call["id"] for call in whole["tool_calls"]}) == 2
    assert whole["finish_reason"] == "tool_calls"
    assert (whole["content"] or "").strip() == before.strip()
    assert (whole["content"] is None) == (not before)

    reply = await made.post(CHAT_PATH, CHAT_BODY | {"tools": TOOLS, "stream": True})
    streamed = reassembled(frames(reply.text))
    assert [tuple(call) for call in streamed["calls"]] == calls
    assert streamed["content"] == whole["content"]
    assert streamed["finish_reason"] == "tool_calls"


async def test_text_alone_stays_text() -> None:
    whole = message((await house("Hello", " <").post(CHAT_PATH, CHAT_BODY | {"tools": TOOLS})).json())
    assert (whole["content"], whole["finish_reason"], "tool_calls" in whole) == ("Hello <", "stop", False)


async def test_a_call_that_is_cut_ends_by_its_length() -> None:
    made = house('<tool_call>\n{"name": "look", "arguments": {"city": "K')
    whole = message((await made.post(CHAT_PATH, CHAT_BODY | {"tools": TOOLS})).json())
    assert whole["finish_reason"] == "length"
    assert whole["tool_calls"][0]["function"]["arguments"] == '{"city": "K'


async def test_without_tools_nothing_is_read_as_a_call() -> None:
    asking: list[Json] = [{}, {"tools": []}, {"tools": TOOLS, "tool_choice": "none"}]
    for fields in asking:
        made = house(WRITTEN["hermes"])
        whole = message((await made.post(CHAT_PATH, CHAT_BODY | fields)).json())
        assert whole["content"] == WRITTEN["hermes"]
        request = made.engine.requests[0]
        assert request.constraint is None
        (prompt,) = request.prompts
        assert isinstance(prompt, ChatPrompt)
        assert prompt.tools == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": "none", "function_call": "none"},
        {"tools": [], "function_call": "none"},
        {"tools": TOOLS, "function_call": None},
        {"functions": [LOOK["function"]], "tool_choice": None, "parallel_tool_calls": None},
    ],
)
async def test_a_choice_of_the_other_dialect_that_says_nothing_passes(fields: Json) -> None:
    await asked(**fields)


async def test_the_older_functions_have_their_own_shape() -> None:
    functions = [LOOK["function"]]
    text = f'<tool_call>\n{{"name": "look", "arguments": {ARGUMENTS}}}\n</tool_call>'
    made = house(*text)
    whole = message((await made.post(CHAT_PATH, CHAT_BODY | {"functions": functions})).json())
    assert whole["function_call"] == {"name": "look", "arguments": ARGUMENTS}
    assert (whole["content"], whole["finish_reason"], "tool_calls" in whole) == (None, "function_call", False)
    reply = await made.post(CHAT_PATH, CHAT_BODY | {"functions": functions, "stream": True})
    parts = [chunk["choices"][0]["delta"].get("function_call", {}) for chunk in frames(reply.text)]  # type: ignore[index]
    assert "".join(part.get("name", "") for part in parts) == "look"
    assert "".join(part.get("arguments", "") for part in parts) == ARGUMENTS


async def test_what_the_engine_is_asked() -> None:
    request = await asked(tools=TOOLS)
    grammar = request.constraint
    assert isinstance(grammar, ToolGrammar)
    assert grammar.markers == request.shown_controls == ("<tool_call>", "</tool_call>")
    assert [param for _, param in grammar.schemas] == [
        "tools[0].function.parameters",
        "tools[1].function.parameters",
    ]
    assert request.constraint_param == "tools"
    (prompt,) = request.prompts
    assert isinstance(prompt, ChatPrompt)
    assert [tool.name for tool in prompt.tools] == ["look", "now"]


@pytest.mark.parametrize(
    ("fields", "names", "is_required", "is_parallel"),
    [
        ({}, ["look", "now"], False, True),
        ({"tool_choice": "auto", "parallel_tool_calls": False}, ["look", "now"], False, False),
        ({"tool_choice": "required"}, ["look", "now"], True, True),
        ({"tool_choice": FORCED_NOW}, ["now"], True, False),
        ({"tool_choice": allowed_look("required")}, ["look"], True, True),
    ],
)
async def test_the_choice_is_in_the_grammar(
    fields: Json, names: list[str], is_required: bool, is_parallel: bool
) -> None:
    request = await asked(tools=TOOLS, **fields)
    assert isinstance(request.constraint, ToolGrammar)
    grammar = request.constraint.grammar
    assert [name for name in ("look", "now") if f'\\"{name}\\"' in grammar] == names
    assert ("%text" not in grammar) == is_required
    assert ("%marker1 (" in grammar or 'call "\\n" %marker1 ("\\n"' in grammar) == is_parallel


@pytest.mark.parametrize(
    "fields",
    [
        {"stop": "Par"},
        {"stop": ["Par"], "tool_choice": "none"},
        {"stop": ["Par"], "tool_choice": allowed_look("auto")},
        {"stop": [], "tool_choice": "required"},
    ],
)
async def test_an_answer_that_may_be_text_can_have_stop_strings(fields: Json) -> None:
    request = await asked(tools=TOOLS, **fields)
    assert request.stop == (("Par",) if fields["stop"] else ())


NAMED: Json = {"type": "function", "function": {"name": "other"}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [LOOK | {"x": 1}]}, "tools[0].x"),
        ({"tools": [LOOK, NOW, LOOK]}, "tools[2].function.name"),
        ({"tools": [NOW] * 129}, "tools"),
        ({"tools": TOOLS, "tool_choice": NAMED}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "any"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "custom", "custom": {"name": "x"}}}, "tool_choice.type"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": NAMED}, "tool_choice"),
        ({"tools": TOOLS, "parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"functions": []}, "functions"),
        ({"functions": [LOOK["function"]], "tools": TOOLS}, "functions"),
        ({"functions": [LOOK["function"]], "function_call": {"name": "x"}}, "function_call"),
        ({"functions": [LOOK["function"]], "tool_choice": "required"}, "tool_choice"),
        ({"functions": [LOOK["function"]], "tool_choice": "none"}, "tool_choice"),
        ({"functions": [LOOK["function"]], "tool_choice": "auto"}, "tool_choice"),
        ({"functions": [LOOK["function"]], "parallel_tool_calls": True}, "parallel_tool_calls"),
        ({"tools": TOOLS, "function_call": "none"}, "function_call"),
        ({"tools": TOOLS, "function_call": "auto"}, "function_call"),
        ({"tools": TOOLS, "function_call": {"name": "look"}}, "function_call"),
        ({"function_call": {"name": "x"}}, "function_call"),
        ({"tools": TOOLS, "min_tokens": 5}, "min_tokens"),
        ({"tools": TOOLS, "regex": "x"}, "regex"),
        ({"tools": TOOLS, "tool_choice": "required", "stop": "Par"}, "stop"),
        ({"tools": TOOLS, "tool_choice": FORCED_NOW, "stop": ["Par"]}, "stop"),
        ({"tools": TOOLS, "tool_choice": allowed_look("required"), "stop": ["Par"]}, "stop"),
        ({"functions": [LOOK["function"]], "function_call": {"name": "look"}, "stop": "Par"}, "stop"),
    ],
)
async def test_what_is_refused(fields: Json, param: str) -> None:
    assert await refused(**fields) == (400, param)


@pytest.mark.parametrize(
    ("parameters", "schema"),
    [
        (None, NOTHING),
        ({}, '{"type": "object"}'),
        ({"$ref": "#/$defs/x"}, '{"type": "object", "$ref": "#/$defs/x"}'),
    ],
)
async def test_arguments_are_an_object_whatever_is_left_out(parameters: Json | None, schema: str) -> None:
    function = {"name": "now", "parameters": parameters}
    for fields in ({"tools": [{"type": "function", "function": function}]}, {"functions": [function]}):
        request = await asked(**fields)
        assert isinstance(request.constraint, ToolGrammar)
        assert [given for given, _ in request.constraint.schemas] == [schema]
        (prompt,) = request.prompts
        assert isinstance(prompt, ChatPrompt)
        assert [tool.parameters for tool in prompt.tools] == [schema]


@pytest.mark.parametrize("kind", ["string", ["object", "null"], None, 3])
async def test_arguments_that_are_no_object_are_refused(kind: object) -> None:
    function = {"name": "now", "parameters": {"type": kind}}
    assert await refused(tools=[LOOK, {"type": "function", "function": function}]) == (
        400,
        "tools[1].function.parameters",
    )
    assert await refused(functions=[function]) == (400, "functions[0].parameters")


async def test_an_answer_that_calls_nothing_can_have_a_form() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    request = await asked(tools=TOOLS, response_format=schema)
    assert isinstance(request.constraint, ToolGrammar)
    assert request.constraint.schemas[-1] == ('{"type": "object"}', "response_format")


async def test_a_template_without_tools_is_told_of_them_in_words() -> None:
    made = house(WRITTEN["hermes"], tool_format="general")
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "rain"},
    ]  # fmt: skip
    body = CHAT_BODY | {"tools": TOOLS, "messages": history}
    assert message((await made.post(CHAT_PATH, body)).json())["finish_reason"] == "tool_calls"
    (prompt,) = made.engine.requests[0].prompts
    assert isinstance(prompt, ChatPrompt)
    assert prompt.tools == ()
    assert [(each.role, each.tool_calls) for each in prompt.messages] == [
        ("system", ()),
        ("user", ()),
        ("assistant", ()),
        ("user", ()),
    ]
    assert (prompt.messages[0].content or "").startswith("Be brief.\n\nYou may call functions")
    signature = f'{{"name": "now", "parameters": {NOTHING}}}'
    assert signature in (prompt.messages[0].content or "")
    assert prompt.messages[2].content == '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'
    assert prompt.messages[3].content == "<tool_response>\nrain\n</tool_response>"
