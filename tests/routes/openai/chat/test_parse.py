from __future__ import annotations

import json

import pytest

from engine.errors import InvalidRequest
from engine.prompt import ChatMessage, ChatPrompt
from engine.sampling.params import SamplingParams
from generation.request import GenerationRequest
from routes.json_body import validate
from routes.openai.chat.body import ChatCompletionBody
from routes.openai.chat.parse import parse


def parsed(**fields: object) -> GenerationRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | fields
    return parse(validate(json.dumps(body).encode(), ChatCompletionBody, strict=True).value, "r")


def messages(*items: dict[str, object]) -> tuple[ChatMessage, ...]:
    (prompt,) = parsed(messages=list(items)).prompts
    assert isinstance(prompt, ChatPrompt)
    return prompt.messages


def test_what_is_left_out_is_openai_s_default() -> None:
    assert parsed() == GenerationRequest(
        model="m",
        prompts=(ChatPrompt((ChatMessage(role="user", content="Hi"),)),),
        sampling=SamplingParams(),
        request_id="r",
    )


def test_null_is_the_default_for_every_field_but_the_required() -> None:
    optional = ChatCompletionBody.model_fields.keys() - {"model", "messages"}
    assert parsed(**dict.fromkeys(optional)) == parsed()


def test_every_field_arrives() -> None:
    request = parsed(
        temperature=0,
        top_p=0.5,
        top_k=40,
        min_p=0.1,
        typical_p=0.9,
        top_n_sigma=1.5,
        xtc_probability=0.5,
        xtc_threshold=0.2,
        min_keep=3,
        mirostat_tau=4,
        mirostat_eta=0.2,
        dynatemp_exponent=2,
        seed=-(2**63),
        frequency_penalty=-2,
        presence_penalty=2,
        repeat_penalty=1.1,
        repeat_last_n=-1,
        dry_multiplier=0.8,
        dry_base=2,
        dry_allowed_length=3,
        dry_penalty_last_n=-1,
        dry_sequence_breakers=["\n", "--"],
        logit_bias={"5": -100, "7": 2.5},
        bad_words=["x", [1, 2]],
        allowed_token_ids=[3, 1],
        n=3,
        max_completion_tokens=9,
        min_tokens=2,
        ignore_eos=True,
        stop=["a", "b"],
    )
    assert request.sampling == SamplingParams(
        temperature=0.0,
        top_p=0.5,
        top_k=40,
        min_p=0.1,
        typical_p=0.9,
        top_n_sigma=1.5,
        xtc_probability=0.5,
        xtc_threshold=0.2,
        min_keep=3,
        mirostat_tau=4.0,
        mirostat_eta=0.2,
        dynatemp_exponent=2.0,
        seed=-(2**63),
        frequency_penalty=-2.0,
        presence_penalty=2.0,
        repeat_penalty=1.1,
        repeat_last_n=-1,
        dry_multiplier=0.8,
        dry_base=2.0,
        dry_allowed_length=3,
        dry_penalty_last_n=-1,
        dry_sequence_breakers=("\n", "--"),
        logit_bias={5: -100.0, 7: 2.5},
        bad_words=("x", (1, 2)),
        allowed_token_ids=(3, 1),
    )
    assert (request.n, request.max_tokens, request.min_tokens, request.ignore_eos) == (3, 9, 2, True)
    assert request.stop == ("a", "b")


def test_two_ways_to_turn_a_filter_off() -> None:
    assert parsed(top_k=-1).sampling == parsed(top_k=0).sampling == SamplingParams()
    assert parsed(top_n_sigma=-1).sampling == parsed(top_n_sigma=0).sampling == SamplingParams()


def test_the_temperature_and_mirostat_arrive() -> None:
    params = parsed(temperature=0.5, mirostat=2).sampling
    assert params == SamplingParams(temperature=0.5, mirostat=2)
    assert parsed(dynatemp_range=1.5).sampling == SamplingParams(dynatemp_range=1.5)


def test_one_stop_string_and_none() -> None:
    assert parsed(stop="x").stop == ("x",)
    assert parsed(stop=[]).stop == ()


def test_roles_are_those_that_templates_know() -> None:
    assert messages(
        {"role": "developer", "content": "a"},
        {"role": "system", "content": "b"},
        {"role": "user", "content": "c", "name": "Ada"},
        {"role": "assistant", "content": "d", "name": None},
    ) == (
        ChatMessage(role="system", content="a"),
        ChatMessage(role="system", content="b"),
        ChatMessage(role="user", content="c", name="Ada"),
        ChatMessage(role="assistant", content="d"),
    )


def test_parts_are_joined_by_line_breaks() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert messages({"role": "user", "content": parts})[0].content == "a\nb"
    said = [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "no"}]
    assert messages({"role": "assistant", "content": said})[0].content == "a\nno"


def test_a_refusal_is_what_the_assistant_said() -> None:
    assert messages({"role": "assistant", "refusal": "I will not."})[0].content == "I will not."
    assert messages({"role": "assistant", "content": "x", "refusal": None})[0].content == "x"


@pytest.mark.parametrize(
    "message",
    [{"role": "assistant"}, {"role": "assistant", "content": None}, {"role": "assistant", "tool_calls": []}],
)
def test_an_assistant_that_says_nothing_is_refused(message: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        messages({"role": "user", "content": "x"}, message)
    assert caught.value.param == "messages[1].content"


def test_content_and_a_refusal_contradict_each_other() -> None:
    with pytest.raises(InvalidRequest) as caught:
        messages({"role": "assistant", "content": "yes", "refusal": "no"})
    assert caught.value.param == "messages[0].refusal"


@pytest.mark.parametrize(
    ("fields", "logprobs"),
    [
        ({}, None),
        ({"logprobs": False}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 0}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
    ],
)
def test_log_probabilities_are_asked_for_with_so_many_alternatives(
    fields: dict[str, object], logprobs: int | None
) -> None:
    assert parsed(**fields).logprobs == logprobs


def test_max_tokens_has_two_names_and_one_value() -> None:
    assert parsed(max_tokens=5).max_tokens == 5
    assert parsed(max_tokens=5, max_completion_tokens=5).max_tokens == 5
    with pytest.raises(InvalidRequest) as caught:
        parsed(max_tokens=5, max_completion_tokens=6)
    assert caught.value.param == "max_tokens"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_logprobs": 0}, "top_logprobs"),
        ({"top_logprobs": 5, "logprobs": False}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": False, "stream_options": {}}, "stream_options"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
        ({"temperature": 0, "dynatemp_range": 0.5}, "dynatemp_range"),
        ({"temperature": 0, "mirostat": 1}, "mirostat"),
        ({"mirostat": 2, "top_k": 40}, "top_k"),
        ({"mirostat": 2, "top_p": 0.9}, "top_p"),
        ({"mirostat": 2, "min_p": 0.1}, "min_p"),
        ({"mirostat": 2, "typical_p": 0.9}, "typical_p"),
        ({"mirostat": 2, "top_n_sigma": 1}, "top_n_sigma"),
        ({"mirostat": 2, "xtc_probability": 0.5}, "xtc_probability"),
        ({"mirostat": 2, "dynatemp_range": 0.5}, "dynatemp_range"),
    ],
)
def test_fields_that_contradict_each_other(fields: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize("content", ["a\nb", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]])
def test_a_prediction_arrives_as_text(content: object) -> None:
    assert parsed(prediction={"type": "content", "content": content}).prediction == "a\nb"


@pytest.mark.parametrize(
    "prediction", ["x", {"type": "content"}, {"type": "text", "content": "x"}, {"content": "x"}]
)
def test_a_prediction_of_another_shape_is_refused(prediction: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(prediction=prediction)
    assert (refused.value.param or "").startswith("prediction")
