"""Tool calls, results and tools as chat templates read them, each family in its own style."""

from __future__ import annotations

import pytest

from engine.chat_template import ChatTemplate
from engine.prompt import ChatMessage, ChatPrompt, Tool, ToolCall

CONTROLS = ("<|im_end|>", "[/INST]", "<s>")
LONG_ID = "call_0123456789"

# How the families write a call: arguments as an object, as an object or text, joined as text, and so on.
STYLES = {
    "hermes": "{% for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}",
    "qwen": (
        "{% for c in m.tool_calls %}{{ c.function.name }} {% if c.function.arguments is string %}"
        "{{ c.function.arguments }}{% else %}{{ c.function.arguments | tojson }}{% endif %}{% endfor %}"
    ),
    "qwen3_coder": (
        "{% for c in m.tool_calls %}{{ c.function.name }}{% for k, v in c.function.arguments.items() %}"
        "{{ '<' + k + '>' + (v | string) }}{% endfor %}{% endfor %}"
    ),
    "deepseek": (
        "{% if m.content is none %}{% for c in m.tool_calls %}"
        "{{ c.function.name + ' ' + c.function.arguments }}{% endfor %}{% endif %}"
    ),
    "text": "{% for c in m.tool_calls %}{{ c.function.name }} {{ c.function.arguments }}{% endfor %}",
    "mistral": (
        "{% for c in m.tool_calls %}{% if c.id|length != 9 %}{{ raise_exception('ids have 9') }}{% endif %}"
        "{{ c.id }} {{ c.function | tojson }}{% endfor %}"
    ),
}
EXPECTED = {
    "hermes": '{"name": "look", "arguments": {"city": "Köln", "n": 1}}',
    "qwen": 'look {"city": "Köln", "n": 1}',
    "qwen3_coder": "look<city>Köln<n>1",
    "deepseek": 'look {"city": "Köln", "n": 1}',
    "text": 'look {"city": "Köln", "n": 1}',
}


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, beginning="<s>", end="</s>", control_texts=CONTROLS)


def looping(body: str) -> ChatTemplate:
    return template(
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        + body
        + "{% elif m.role == 'tool' %}|{{ m.tool_call_id }}={{ m.content }}{% endif %}{% endfor %}"
    )


def chat(arguments: str = '{"city": "Köln", "n": 1}', content: str | None = None) -> list[ChatMessage]:
    return [
        ChatMessage(role="user", content="hi"),
        ChatMessage(
            role="assistant",
            content=content,
            tool_calls=(ToolCall(id=LONG_ID, name="look", arguments=arguments),),
        ),
        ChatMessage(role="tool", content="rain", name="look", tool_call_id=LONG_ID),
    ]


@pytest.mark.parametrize("name", EXPECTED)
def test_each_style_shows_the_call_and_its_result(name: str) -> None:
    assert looping(STYLES[name]).render(ChatPrompt(tuple(chat()))).text == f"{EXPECTED[name]}|{LONG_ID}=rain"


def test_where_ids_must_be_short_call_and_result_get_the_same_one() -> None:
    call, _, result = looping(STYLES["mistral"]).render(ChatPrompt(tuple(chat()))).text.partition("|")
    short, _, rest = call.partition(" ")
    assert (len(short), short.isalnum(), rest) == (9, True, EXPECTED["hermes"])
    assert result == f"{short}=rain"


@pytest.mark.parametrize("name", STYLES)
def test_control_tokens_in_arguments_are_plain_text(name: str) -> None:
    rendered = looping(STYLES[name]).render(
        ChatPrompt(tuple(chat('{"city": "a<|im_end|>b", "x[/INST]": ["<s>"]}')))
    )
    plain = [text for text, is_plain in rendered.pieces if is_plain]
    assert plain == ["<|im_end|>", "[/INST]", "<s>"]
    assert not any(
        control in text for text, is_plain in rendered.pieces if not is_plain for control in CONTROLS
    )


def test_tools_are_told_in_openais_shape_and_what_they_say_is_plain_text() -> None:
    tool = Tool(
        name="look",
        description="Looks <s>out",
        parameters='{"type": "object", "properties": {"b": {"enum": ["<|im_end|>"]}, "a": {}}}',
        is_strict=True,
    )
    rendered = template("{{ tools | tojson }}").render(
        ChatPrompt((ChatMessage(role="user", content="hi"),), (tool,))
    )
    assert rendered.text == (
        '[{"type": "function", "function": {"name": "look", "description": "Looks <s>out", "parameters": '
        '{"type": "object", "properties": {"b": {"enum": ["<|im_end|>"]}, "a": {}}}, "strict": true}}]'
    )
    assert [text for text, is_plain in rendered.pieces if is_plain] == ["<s>", "<|im_end|>"]


def test_no_tools_are_none() -> None:
    source = "{% if tools is not none %}tools{% else %}none{% endif %}"
    assert template(source).render(ChatPrompt((ChatMessage(role="user", content="hi"),))).text == "none"


def test_null_content_beside_calls_is_never_the_word_none() -> None:
    assert looping("[{{ m.content }}]").render(ChatPrompt(tuple(chat()))).text.startswith("[]")
