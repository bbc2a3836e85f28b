"""Against OpenAI's specification: each field honoured or refused, each answer in its schema."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.errors import UnsupportedField
from routes.json_body import validate as read
from routes.not_served import NotServed
from routes.openai.chat.body import ChatCompletionBody
from routes.openai.completions.body import CompletionBody
from routes.openai.embeddings.body import EmbeddingBody
from routes.wire_body import ModelBody
from tests.fakes.engine import FakeEngine, answer
from tests.fakes.house import (
    BODIES,
    CHAT_BODY,
    CHAT_PATH,
    COMPLETION_BODY,
    COMPLETIONS_PATH,
    EMBEDDINGS_PATH,
    PLAIN_BODIES,
    House,
    frames,
)
from tests.fakes.specification import properties, validate

DIALECTS: list[tuple[type[ModelBody], dict[str, object], str]] = [
    (ChatCompletionBody, CHAT_BODY, "CreateChatCompletionRequest"),
    (CompletionBody, COMPLETION_BODY, "CreateCompletionRequest"),
    (EmbeddingBody, PLAIN_BODIES[EMBEDDINGS_PATH], "CreateEmbeddingRequest"),
]
REFUSED = [
    (body, minimal, name, field)
    for body, minimal, _ in DIALECTS
    for name, info in body.model_fields.items()
    for field in info.metadata
    if isinstance(field, NotServed)
]


@pytest.mark.parametrize(("body", "minimal", "name"), DIALECTS)
def test_every_field_of_the_specification_is_in_our_table(
    body: type[ModelBody], minimal: dict[str, object], name: str
) -> None:
    assert properties(name).keys() - body.model_fields.keys() == set()


@pytest.mark.parametrize(("body", "minimal", "name"), DIALECTS)
def test_no_other_field_is_refused_as_if_openai_knew_it(
    body: type[ModelBody], minimal: dict[str, object], name: str
) -> None:
    refused = {field for owner, _, field, _ in REFUSED if owner is body}
    assert refused - properties(name).keys() == set()


@pytest.mark.parametrize(("body", "minimal", "name", "refusal"), REFUSED)
def test_a_refused_field_takes_what_asks_for_nothing_and_names_itself_for_the_rest(
    body: type[ModelBody], minimal: dict[str, object], name: str, refusal: NotServed
) -> None:
    for harmless in (None, *refusal.harmless):
        read(json.dumps(minimal | {name: harmless}).encode(), body, strict=True)
    for asking in (True, False, 0, 1, 5.5, "", "x", [], ["x"], {}, {"x": 1}, {"type": "json_object"}):
        if any(type(asking) is type(item) and asking == item for item in refusal.harmless):
            continue
        with pytest.raises(UnsupportedField) as caught:
            read(json.dumps(minimal | {name: asking}).encode(), body, strict=True)
        assert caught.value.param == name
        assert refusal.why in caught.value.message


WHOLE = {CHAT_PATH: "CreateChatCompletionResponse", COMPLETIONS_PATH: "CreateCompletionResponse"}


@pytest.mark.parametrize("path", WHOLE)
async def test_whole_answers_are_in_their_schema(path: str) -> None:
    house = House(FakeEngine(answer("Hello", reason="length")))
    validate((await house.post(path, BODIES[path])).json(), WHOLE[path])


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_embeddings_are_in_their_schema(form: str) -> None:
    body = PLAIN_BODIES[EMBEDDINGS_PATH] | {"encoding_format": form}
    reply = (await House().post(EMBEDDINGS_PATH, body)).json()
    if form == "base64":
        # The specification leaves out what OpenAI's own clients ask for.
        reply["data"] = [item | {"embedding": [0.0]} for item in reply["data"]]
    validate(reply, "CreateEmbeddingResponse")


@pytest.mark.parametrize("path", WHOLE)
@pytest.mark.parametrize("options", [{}, {"include_usage": True, "include_obfuscation": True}])
async def test_chunks_are_in_their_schema(path: str, options: dict[str, object]) -> None:
    reply = await House().post(path, BODIES[path] | {"stream": True, "stream_options": options})
    for chunk in frames(reply.text):
        if path == CHAT_PATH:
            validate(chunk, "CreateChatCompletionStreamResponse")
        else:
            validate(_as_if_whole(chunk), "CreateCompletionResponse")


def _as_if_whole(chunk: dict[str, Any]) -> dict[str, Any]:
    """The specification has no schema for completion chunks: OpenAI sends nulls where a whole answer has none."""
    for choice in chunk["choices"]:
        choice["finish_reason"] = choice["finish_reason"] or "stop"
    return {key: value for key, value in chunk.items() if (key, value) != ("usage", None)}
