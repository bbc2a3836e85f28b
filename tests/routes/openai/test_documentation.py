from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from routes.document import document_of
from routes.openai.chat.body import ChatCompletionBody
from routes.openai.completions.body import CompletionBody
from routes.openai.documentation import PromisedSchema
from routes.openai.errors import ERROR_ROWS
from tests.fakes.house import ADMIN_BODIES, BODIES, CHAT_PATH, COMPLETIONS_PATH, PLAIN_BODIES, House, frames

Schema = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Schema:
    return document_of(House().app)


def body_schema(document: Schema, path: str) -> Schema:
    schema: Schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return schema


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "$ref" and isinstance(value, str))
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def test_no_reference_leads_nowhere(document: Schema) -> None:
    assert list(references(document)) == []


def test_every_route_is_there(document: Schema) -> None:
    assert document["paths"].keys() == {
        CHAT_PATH,
        COMPLETIONS_PATH,
        *PLAIN_BODIES,
        "/props",
        "/v1/models",
        "/v1/models/{model_id}",
        "/health",
        "/ready",
        "/metrics",
        "/admin/v1/usage",
        "/admin/v1/models",
        "/admin/v1/models/{model_id}",
        *ADMIN_BODIES,
        "/admin/v1/catalog",
        "/admin/v1/found",
        "/admin/v1/jobs",
        "/admin/v1/jobs/{job_id}",
        "/admin/v1/jobs/{job_id}/events",
    }


@pytest.mark.parametrize(
    ("path", "model"), [(CHAT_PATH, ChatCompletionBody), (COMPLETIONS_PATH, CompletionBody)]
)
def test_bodies_are_documented_as_they_are_read(
    document: Schema, path: str, model: type[ChatCompletionBody | CompletionBody]
) -> None:
    schema = body_schema(document, path)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert schema["properties"].keys() == model.model_fields.keys()
    validator.validate(BODIES[path])
    for wrong in (
        {"foo": 1},
        {"n": 0},
        {"stop": ""},
        {"logprobs": -1},
        {"logit_bias": {"x": 1}},
        {"model": None},
    ):
        assert not validator.is_valid(BODIES[path] | wrong), wrong
    for right in ({"stop": ["x"]}, {"logit_bias": {"5": 1}}, {"logprobs": None}, {"temperature": None}):
        assert validator.is_valid(BODIES[path] | right), right


def test_messages_are_documented_by_role(document: Schema) -> None:
    validator = jsonschema.Draft202012Validator(body_schema(document, CHAT_PATH))
    for message, is_right in (
        ({"role": "developer", "content": [{"type": "text", "text": "x"}]}, True),
        ({"role": "assistant", "content": None, "refusal": "no"}, True),
        ({"role": "user", "content": []}, False),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, False),
        ({"role": "tool", "content": "x", "tool_call_id": "y"}, True),
        ({"role": "tool", "content": "x"}, False),
    ):
        assert validator.is_valid(BODIES[CHAT_PATH] | {"messages": [message]}) == is_right, message


@pytest.mark.parametrize("path", BODIES)
async def test_answers_are_documented_as_they_are_sent(document: Schema, path: str) -> None:
    responses: Schema = document["paths"][path]["post"]["responses"]
    statuses = {str(row.status) for row in ERROR_ROWS.values()} - {"405", "409"}
    # The guards in front of all routes answer 403, a wrong method is no operation of the document, and 409 an admin's.
    assert responses.keys() == statuses | {"200", "403"}
    content = responses["200"]["content"]
    house = House()
    whole = await house.post(path, BODIES[path])
    jsonschema.validate(whole.json(), content["application/json"]["schema"])
    options = {"include_usage": True, "include_obfuscation": True}
    streamed = await house.post(path, BODIES[path] | {"stream": True, "stream_options": options})
    for chunk in frames(streamed.text):
        jsonschema.validate(chunk, content["text/event-stream"]["schema"])
    error = await house.post(path, {})
    jsonschema.validate(error.json(), responses["400"]["content"]["application/json"]["schema"])


@pytest.mark.parametrize("path", PLAIN_BODIES)
async def test_answers_that_are_never_streamed_are_documented_as_they_are_sent(
    document: Schema, path: str
) -> None:
    jsonschema.validate(PLAIN_BODIES[path], body_schema(document, path))
    responses: Schema = document["paths"][path]["post"]["responses"]
    assert responses["200"]["content"].keys() == {"application/json"}
    whole = await House().post(path, PLAIN_BODIES[path])
    jsonschema.validate(whole.json(), responses["200"]["content"]["application/json"]["schema"])
    error = await House().post(path, {})
    jsonschema.validate(error.json(), responses["400"]["content"]["application/json"]["schema"])


def test_a_route_documents_no_error_that_it_cannot_answer_with(document: Schema) -> None:
    told = {
        (path, method): {int(status) for status in operation["responses"]}
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert told["/health", "get"] == {200, 403}
    assert told["/v1/models", "get"] == {200, 401, 403, 500}
    assert told["/v1/models/{model_id}", "get"] == {200, 401, 403, 404, 500}
    assert {400, 404, 503} < told["/props", "get"]
    assert told["/props", "get"].isdisjoint({405, 408, 413, 415})


async def test_properties_are_documented_as_they_are_sent(document: Schema) -> None:
    schema = document["paths"]["/props"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    async with House().client() as client:
        jsonschema.validate((await client.get("/props")).json(), schema)


def test_routes_are_built_without_a_schema_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server starts by as much sooner as the schemas take, and few are ever asked for the document."""
    monkeypatch.setattr(PromisedSchema, "made", lambda promised: pytest.fail(f"{promised} was made"))
    house = House()
    monkeypatch.undo()
    assert document_of(house.app)["paths"]


async def test_two_who_ask_at_once_are_told_the_same(document: Schema) -> None:
    async with House().client() as client:
        answers = await asyncio.gather(*(client.get("/openapi.json") for _ in range(2)))
    assert [answer.json() for answer in answers] == [json.loads(json.dumps(document))] * 2
