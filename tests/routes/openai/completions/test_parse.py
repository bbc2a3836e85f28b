from __future__ import annotations

import json

import pytest

from engine.errors import InvalidRequest
from engine.prompt import InfillPrompt, Prompt, TextPrompt, TokenPrompt
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


@pytest.mark.parametrize("logprobs", [None, 0, 5])
def test_log_probabilities_are_asked_for_by_their_number(logprobs: int | None) -> None:
    assert parsed(logprobs=logprobs).logprobs == logprobs


def test_a_suffix_makes_a_gap_in_each_prompt() -> None:
    assert parsed(suffix="z").prompts == (InfillPrompt(TextPrompt("Once"), "z"),)
    assert parsed(suffix="z", prompt=[[1], [2]]).prompts == (
        InfillPrompt(TokenPrompt((1,)), "z"),
        InfillPrompt(TokenPrompt((2,)), "z"),
    )
    assert parsed(suffix="").prompts == parsed(suffix=None).prompts == (TextPrompt("Once"),)


def test_no_tokens_are_asked_for_beside_an_echo_alone() -> None:
    assert parsed(echo=True).echo
    assert not parsed(echo=False).echo
    assert parsed(echo=True, max_tokens=0).max_tokens == 0
    for fields in ({}, {"echo": False}, {"echo": None}):
        with pytest.raises(InvalidRequest) as caught:
            parsed(max_tokens=0, **fields)
        assert caught.value.param == "max_tokens"
    with pytest.raises(InvalidRequest) as caught:
        parsed(max_tokens=0, echo=True, min_tokens=1)
    assert caught.value.param == "min_tokens"


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


@pytest.mark.parametrize(
    ("fields", "n", "candidates"),
    [
        ({}, 1, 1),
        ({"n": 30}, 30, 30),
        ({"best_of": 1}, 1, 1),
        ({"best_of": 3, "n": 3, "stream": True}, 3, 3),
        ({"best_of": 3}, 1, 3),
        ({"best_of": 20, "n": 5}, 5, 20),
        ({"best_of": 20, "prompt": ["a"] * (MAX_CHOICES // 20)}, 1, 20),
    ],
)
def test_the_best_are_chosen_of_so_many(fields: dict[str, object], n: int, candidates: int) -> None:
    request = parsed(**fields)
    assert (request.n, request.candidates, request.is_ranked) == (n, candidates, candidates > n)


@pytest.mark.parametrize(
    "fields",
    [
        {"best_of": 0},
        {"best_of": 21},
        {"best_of": 2, "n": 3},
        {"best_of": 2, "stream": True},
        {"best_of": 20, "prompt": ["a"] * (MAX_CHOICES // 20 + 1)},
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(**fields)
    assert caught.value.param == "best_of"


def test_null_is_the_default_for_every_field_but_the_required() -> None:
    optional = CompletionBody.model_fields.keys() - {"model", "prompt"}
    assert parsed(**dict.fromkeys(optional)) == parsed()
