"""Our own OpenAPI document: the true schemas of the bodies that we read, and of what we answer.

Routes hold promises of schemas, which are made when the document is first asked for: to make them takes a quarter of
a second, by which every server would start later, and most are never asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from routes.openai.errors import ERROR_ROWS, ErrorBody

Schema = dict[str, Any]  # JSON Schema, which no type describes
RouteT = TypeVar("RouteT", bound=Callable[[Request], Awaitable[Response]])


@dataclass(frozen=True, slots=True)
class PromisedSchema:
    """Stands in a route's description where a schema belongs."""

    make: Callable[[], Schema]

    def made(self) -> Schema:
        """The JSON Schema, without references."""
        schema = self.make()
        made = resolved(schema, schema.get("$defs", {}))
        assert isinstance(made, dict)
        return made


def struct_schema(struct: type[msgspec.Struct]) -> PromisedSchema:
    return PromisedSchema(partial(msgspec.json.schema, struct))


def request_body(model: type[BaseModel]) -> Schema:
    """The ``openapi_extra`` of a route that reads ``model`` from its raw body."""
    return {
        "requestBody": {"required": True, "content": json_content(PromisedSchema(model.model_json_schema))}
    }


def json_content(schema: PromisedSchema | Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def posted(
    router: APIRouter,
    path: str,
    body: type[BaseModel],
    whole: type[msgspec.Struct],
    chunk: type[msgspec.Struct] | None = None,
) -> Callable[[RouteT], RouteT]:
    """The decorator of a route that reads ``body`` itself, and answers ``whole`` or in a stream of ``chunk``."""
    return router.post(
        path, response_model=None, responses=answers(whole, chunk), openapi_extra=request_body(body)
    )


_UNROUTED = frozenset(
    {"route_not_found", "method_not_allowed", "model_protected", "model_busy", "job_not_found"}
)
"""Answers to what is no operation of the document, or one that names them itself."""
WITHOUT_BODY = frozenset(
    {
        "unsupported_field",
        "body_timeout",
        "request_too_large",
        "unsupported_media_type",
        "context_length_exceeded",
        "request_quarantined",
        "queue_full",
        "key_queue_full",
    }
)
"""What a route that reads no body cannot answer."""
WITHOUT_MODEL = frozenset(
    {
        "invalid_request",
        "model_load_failed",
        "model_load_timeout",
        "model_unavailable",
        "queue_full",
        "key_queue_full",
        "queue_timeout",
        "rate_limit_exceeded",
        "worker_died",
        "insufficient_memory",
        "insufficient_disk",
        "request_timeout",
    }
)
"""What a route that asks nothing of a model cannot answer."""
_GUARDS = ("host_not_allowed", "origin_not_allowed")
"""Answered with 403 before any route is reached."""


def answers(
    whole: type[msgspec.Struct],
    chunk: type[msgspec.Struct] | None = None,
    *,
    never: frozenset[str] = frozenset(),
    also: frozenset[str] = frozenset(),
    status: int = 200,
) -> dict[int | str, Schema]:
    """The ``responses`` of a route: what it answers, whole and per chunk of a stream, and its errors.

    ``never`` are the kinds of errors that it cannot answer with, ``also`` those that hardly any other can.
    """
    content = json_content(struct_schema(whole))
    if chunk:
        content["text/event-stream"] = {"schema": struct_schema(chunk)}
    found: dict[int | str, Schema] = {status: {"description": "The answer.", "content": content}}
    return found | error_answers((ERROR_ROWS.keys() - _UNROUTED - never) | also)


def error_answers(kinds: Iterable[str] = ()) -> dict[int | str, Schema]:
    """The errors of a route by their status, and that of the guards in front of all routes."""
    error = json_content(struct_schema(ErrorBody))
    by_status: dict[int, list[str]] = {403: list(_GUARDS)}
    for kind in sorted(kinds):
        by_status.setdefault(ERROR_ROWS[kind].status, []).append(kind)
    return {
        status: {"description": ", ".join(names), "content": error}
        for status, names in sorted(by_status.items())
    }


def resolved(node: Any, definitions: Schema) -> Any:  # noqa: ANN401 - any JSON, and promises in it
    """``node`` with promised schemas made, and references replaced by what they name: inside a larger document they
    would lead nowhere.

    Our wire types are not recursive, so this ends.
    """
    if isinstance(node, PromisedSchema):
        return node.made()
    if isinstance(node, list):
        return [resolved(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if reference := node.get("$ref"):
        return resolved(definitions[reference.removeprefix("#/$defs/")], definitions)
    return {
        key: {"propertyName": item["propertyName"]} if key == "discriminator" else resolved(item, definitions)
        for key, item in node.items()
        if key != "$defs"
    }
