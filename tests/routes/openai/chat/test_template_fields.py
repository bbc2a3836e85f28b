"""What steers the template: told to the engine as it is, or refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.errors import InvalidRequest
from engine.prompt import ChatMessage, ChatPrompt, TemplateOptions
from routes.json_body import validate
from routes.llama_cpp.bodies import ApplyTemplateBody
from routes.openai.chat.body import ChatCompletionBody
from routes.openai.chat.parse import parse
from tests.fakes.house import CHAT_BODY

_ASSISTANT = {"role": "assistant", "content": "Once"}
_CHAT: list[dict[str, Any]] = [{"role": "user", "content": "Tell"}, _ASSISTANT]


def _prompt(**fields: object) -> ChatPrompt:
    raw = json.dumps(CHAT_BODY | fields).encode()
    (prompt,) = parse(validate(raw, ChatCompletionBody, strict=True).value, "").prompts
    assert isinstance(prompt, ChatPrompt)
    return prompt


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, TemplateOptions()),
        (
            {"reasoning_effort": None, "chat_template_kwargs": {"enable_thinking": None}},
            TemplateOptions(),
        ),
        ({"reasoning_effort": "low"}, TemplateOptions(reasoning_effort="low")),
        ({"chat_template_kwargs": {"reasoning_effort": "low"}}, TemplateOptions(reasoning_effort="low")),
        (
            {"chat_template_kwargs": {"enable_thinking": False, "thinking_budget": 9, "date_string": "x"}},
            TemplateOptions(kwargs={"enable_thinking": False, "thinking_budget": 9, "date_string": "x"}),
        ),
        ({"add_generation_prompt": False}, TemplateOptions(adds_generation_prompt=False)),
        ({"add_generation_prompt": True}, TemplateOptions()),
        (
            {"continue_final_message": True, "messages": _CHAT},
            TemplateOptions(adds_generation_prompt=False, continues_last=True),
        ),
        (
            {"continue_final_message": True, "add_generation_prompt": False, "messages": _CHAT},
            TemplateOptions(adds_generation_prompt=False, continues_last=True),
        ),
        ({"continue_final_message": False}, TemplateOptions()),
    ],
)
def test_fields_become_options(fields: dict[str, object], options: TemplateOptions) -> None:
    assert _prompt(**fields).options == options


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
        ({"chat_template_kwargs": {"bos_token": "x"}}, "chat_template_kwargs.bos_token"),
        ({"chat_template_kwargs": {"enable_thinking": "false"}}, "chat_template_kwargs.enable_thinking"),
        (
            {"reasoning_effort": "low", "chat_template_kwargs": {"reasoning_effort": "high"}},
            "chat_template_kwargs.reasoning_effort",
        ),
        ({"continue_final_message": True}, "continue_final_message"),
        (
            {"continue_final_message": True, "add_generation_prompt": True, "messages": _CHAT},
            "continue_final_message",
        ),
        (
            {"messages": [*_CHAT, {**_ASSISTANT, "reasoning": "a", "reasoning_content": "b"}]},
            "messages[2].reasoning",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(fields: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _prompt(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "names", [("reasoning",), ("reasoning_content",), ("reasoning", "reasoning_content")]
)
def test_answers_may_be_sent_back_with_their_reasoning(names: tuple[str, ...]) -> None:
    told = {**_ASSISTANT, "refusal": None, **dict.fromkeys(names, "hm")}
    assert _prompt(messages=[*_CHAT, told]).messages[-1].reasoning == "hm"


def test_a_prompt_that_is_only_shown_is_steered_alike() -> None:
    raw = json.dumps({"messages": _CHAT, "reasoning_effort": "low", "continue_final_message": True}).encode()
    body = validate(raw, ApplyTemplateBody, strict=True).value
    options = body.template_options((ChatMessage(role="assistant", content="Once"),))
    assert options == TemplateOptions(
        adds_generation_prompt=False, continues_last=True, reasoning_effort="low"
    )
