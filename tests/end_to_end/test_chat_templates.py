"""Steering the bundled model's template: an answer that is begun, and what this template does not know."""

from __future__ import annotations

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.end_to_end.live_server import MODEL

pytestmark = pytest.mark.model

BEGUN: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "Count from 1 to 6."},
    {"role": "assistant", "content": "1, 2, 3,"},
]


def test_the_model_goes_on_with_what_it_was_given_to_say(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=BEGUN,
        max_tokens=4,
        temperature=0,
        extra_body={"continue_final_message": True, "add_generation_prompt": False},
    )
    text = answer.choices[0].message.content
    assert text is not None
    assert text.startswith(" 4")
    assert answer.choices[0].message.model_extra == {}


def test_a_model_that_does_not_think_refuses_to_be_told_how(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as effort:
        client.chat.completions.create(model=MODEL, messages=BEGUN[:1], reasoning_effort="low")
    assert effort.value.param == "reasoning_effort"
    with pytest.raises(openai.BadRequestError) as switch:
        client.chat.completions.create(
            model=MODEL,
            messages=BEGUN[:1],
            extra_body={"chat_template_kwargs": {"enable_thinking": False}},
        )
    assert switch.value.param == "chat_template_kwargs.enable_thinking"
