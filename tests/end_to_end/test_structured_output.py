"""Answers that keep to a schema, through the official client."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.end_to_end.live_server import MODEL, LiveServer

pytestmark = pytest.mark.model


class Pet(BaseModel):
    kind: Literal["cat", "dog"]
    is_old: bool


def test_the_client_parses_an_answer_into_its_own_class(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Describe my old cat."}],
        response_format=Pet,
        temperature=0,
        max_tokens=60,
    )
    assert isinstance(answer.choices[0].message.parsed, Pet)
    assert answer.choices[0].finish_reason == "stop"


def test_streamed_as_whole(server: LiveServer) -> None:
    schema = {
        "name": "pet",
        "strict": True,
        "schema": Pet.model_json_schema() | {"additionalProperties": False},
    }
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": "Describe my dog."}],
        "response_format": {"type": "json_schema", "json_schema": schema},
        "max_tokens": 60,
    }
    whole = server.post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]
    frames = server.post("/v1/chat/completions", {**body, "stream": True}).text.split("\n\n")[:-2]
    deltas = [json.loads(frame.removeprefix("data: "))["choices"][0]["delta"] for frame in frames]
    assert "".join(delta.get("content") or "" for delta in deltas) == whole
    Pet.model_validate_json(whole)


def test_a_regular_expression(server: LiveServer) -> None:
    body = {"prompt": "My number:", "regex": "[0-9]{3}-[0-9]{2}", "max_tokens": 12}
    choice = server.post("/v1/completions", body).json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert len(choice["text"]) == 6
    assert choice["text"].replace("-", "").isdigit()


def test_a_schema_that_is_none_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Hi"}],
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "none", "schema": {"type": "no such type"}},
            },
        )
    assert caught.value.param is not None
    assert caught.value.param.startswith("response_format")
