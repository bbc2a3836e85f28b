from __future__ import annotations

import json

import pytest

from engine.errors import InvalidRequest, UnsupportedField
from engine.prompt import Prompt, TextPrompt, TokenPrompt
from generation.request import GenerationRequest
from routes.json_body import validate
from routes.openai.completions.body import CompletionBody
from routes.openai.completions.parse import parse
from routes.openai.sampling_fields import MAX_CHOICES


def parsed(**fields: object) -> GenerationRequest:
    body = {"model": "m", "prompt": "Once"} | fields
    return parse(validate(json.dumps(body).encode(), CompletionBody, strict=True).value, "r")


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        (None, (TextPrompt(""),)),
        ("", (TextPrompt(""),)),
        ("a", (TextPrompt("a"),)),
        (["a"], (TextPrompt("a"),)),
        (["a", ""], (TextPrompt("a"), TextPrompt(""))),
        ([1, 2], (TokenPrompt((1, 2)),)),
        ([[1, 2], [3]], (TokenPrompt((1, 2)), TokenPrompt((3,)))),
    ],
)
def test_a_prompt_has_four_shapes(prompt: object, prompts: tuple[Prompt, ...]) -> None:
    assert parsed(prompt=prompt).prompts == prompts


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        ([], "prompt"),
        ([[]], "prompt[0]"),
        ([[1], []], "prompt[1]"),
        (["a", 1], "prompt[1]"),
        ([1, "a"], "prompt[1]"),
        ([[1], ["a"]], "prompt[1][0]"),
        ([1, -1], "prompt[1]"),
        ([2**31], "prompt[0]"),
        ([True], "prompt[0]"),
        ([1.0], "prompt[0]"),
        ([None], "prompt[0]"),
        ({}, "prompt"),
        (5, "prompt"),
    ],
)
def test_other_shapes_are_refused_where_they_differ(prompt: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(prompt=prompt)
    assert caught.value.param == param


def test_the_default_is_16_tokens() -> None:
    assert parsed().max_tokens == parsed(max_tokens=None).max_tokens == 16
    assert parsed(max_tokens=1).max_tokens == 1


def test_min_tokens_is_compared_with_the_default_too() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(min_tokens=17)
    assert caught.value.param == "min_tokens"


@pytest.mark.parametrize(
    ("prompts", "n", "param"),
    [(MAX_CHOICES, 1, None), (MAX_CHOICES + 1, 1, "prompt"), (4, 128, None), (5, 128, "prompt")],
)
def test_choices_are_bounded_over_all_prompts(prompts: int, n: int, param: str | None) -> None:
    if param is None:
        assert parsed(prompt=["a"] * prompts, n=n).choices == prompts * n
    else:
        with pytest.raises(InvalidRequest) as caught:
            parsed(prompt=["a"] * prompts, n=n)
        assert caught.value.param == param


def test_best_of_is_served_where_it_chooses_nothing() -> None:
    assert parsed(best_of=1).n == 1
    assert parsed(best_of=3, n=3).n == 3
    with pytest.raises(UnsupportedField) as caught:
        parsed(best_of=3)
    assert caught.value.param == "best_of"


def test_null_is_the_default_for_every_field_but_the_required() -> None:
    optional = CompletionBody.model_fields.keys() - {"model", "prompt"}
    assert parsed(**dict.fromkeys(optional)) == parsed()
