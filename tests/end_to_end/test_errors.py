"""Failures as clients meet them: the official client's own exceptions, and bodies of four fields."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.end_to_end.live_server import MODEL, LiveServer

pytestmark = pytest.mark.model


def test_models_are_listed_and_retrieved(client: openai.OpenAI) -> None:
    (model,) = client.models.list()
    assert (model.id, model.object, model.owned_by) == (MODEL, "model", "nibble")
    retrieved = client.models.retrieve(MODEL)
    assert retrieved == model
    assert model.model_extra is not None
    assert model.model_extra["context_length"] == 2048


def test_an_unknown_model_is_not_found_and_the_nearest_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="smollm2-135m", prompt="1")
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert f"'{MODEL}'" in caught.value.message
    with pytest.raises(openai.NotFoundError) as retrieved:
        client.models.retrieve("smollm2")
    assert retrieved.value.code == "model_not_found"


@pytest.mark.parametrize("stream", [True, False])
def test_a_prompt_that_does_not_fit_is_told_both_numbers(client: openai.OpenAI, stream: bool) -> None:
    """Before any stream begins, so that the status is true."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=MODEL, prompt=[260] * 3000, max_tokens=5, stream=stream)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "prompt"
    assert "2048" in caught.value.message
    assert "3000" in caught.value.message


def test_an_answer_that_does_not_fit_is_told_both_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=MODEL, prompt=[260] * 100, max_tokens=2000)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "max_tokens"
    assert "2048" in caught.value.message
    assert "2100" in caught.value.message


def test_of_several_prompts_the_one_that_does_not_fit_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=MODEL, prompt=[[260], [260] * 3000], max_tokens=5)
    assert caught.value.param == "prompt[1]"


def test_a_chat_that_does_not_fit_names_the_field_to_change(client: openai.OpenAI) -> None:
    long = [{"role": "user", "content": "far " * 3000}]
    for messages, tokens, param in (
        (long, {}, "messages"),
        (long, {"max_tokens": 5}, "messages"),
        ([{"role": "user", "content": "Hi"}], {"max_tokens": 2048}, "max_tokens"),
        ([{"role": "user", "content": "Hi"}], {"max_completion_tokens": 2048}, "max_completion_tokens"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=MODEL, messages=messages, **tokens)  # type: ignore[call-overload]
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", param)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 2.5),
        ("top_p", -0.1),
        ("n", 0),
        ("max_tokens", 0),
        ("stop", ["1", "2", "3", "4", "5"]),
        ("frequency_penalty", 3),
        ("logit_bias", {"1": 101}),
        ("logit_bias", {"999999": 1}),
        ("stream_options", {"include_usage": True}),
    ],
)
def test_a_value_out_of_bounds_names_its_field(client: openai.OpenAI, field: str, value: Any) -> None:
    fields: dict[str, Any] = {field: value}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}], **fields)
    assert caught.value.param is not None
    assert caught.value.param.startswith(field)
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("store", True),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("web_search_options", {}),
    ],
)
def test_what_is_not_served_is_refused_by_name(client: openai.OpenAI, field: str, value: Any) -> None:
    fields: dict[str, Any] = {field: value}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}], **fields)
    assert (caught.value.code, caught.value.param) == ("unsupported_field", field)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/completions", {"prompt": "1", "n": -1}, 400, "invalid_request"),
        ("POST", "/v1/completions", {"prompt": "1", "model": "nope"}, 404, "model_not_found"),
        ("POST", "/v1/nonsense", {}, 404, "route_not_found"),
        ("GET", "/v1/completions", None, 405, "method_not_allowed"),
        ("GET", "/v1/models/nope", None, 404, "model_not_found"),
    ],
)
def test_an_error_body_has_four_fields(
    server: LiveServer, method: str, path: str, body: dict[str, Any] | None, status: int, code: str
) -> None:
    response = server.http.request(method, path, json=None if body is None else {"model": MODEL, **body})
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert response.headers["x-request-id"]


def test_a_request_id_is_kept_or_made(server: LiveServer) -> None:
    kept = server.http.get("/v1/models", headers={"x-request-id": "mine-1"})
    assert kept.headers["x-request-id"] == "mine-1"
    made = {server.http.get("/v1/models").headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2
    unsound = server.http.get("/v1/models", headers={"x-request-id": "no spaces, please"})
    assert unsound.headers["x-request-id"] != "no spaces, please"


def test_the_client_reads_the_request_id(client: openai.OpenAI) -> None:
    answer = client.completions.with_raw_response.create(
        model=MODEL, prompt="1, 2,", max_tokens=1, extra_headers={"x-request-id": "mine-2"}
    )
    assert answer.request_id == "mine-2"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nope", extra_headers={"x-request-id": "mine-3"})
    assert caught.value.request_id == "mine-3"
