"""Our own OpenAPI document: the true schemas of the bodies that we read, and of what we answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from routes.openai.errors import ERROR_ROWS, ErrorBody

Schema = dict[str, Any]  # JSON Schema, which no type describes
RouteT = TypeVar("RouteT", bound=Callable[[Request], Awaitable[Response]])


def request_body(model: type[BaseModel]) -> Schema:
    """The ``openapi_extra`` of a route that reads ``model`` from its raw body."""
    schema = model.model_json_schema()
    content = {"application/json": {"schema": _inlined(schema, schema.get("$defs", {}))}}
    return {"requestBody": {"required": True, "content": content}}


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
    content: Schema = {"application/json": {"schema": struct_schema(whole)}}
    if chunk:
        content["text/event-stream"] = {"schema": struct_schema(chunk)}
    found: dict[int | str, Schema] = {status: {"description": "The answer.", "content": content}}
    return found | error_answers((ERROR_ROWS.keys() - _UNROUTED - never) | also)


def error_answers(kinds: Iterable[str] = ()) -> dict[int | str, Schema]:
    """The errors of a route by their status, and that of the guards in front of all routes."""
    error = {"application/json": {"schema": struct_schema(ErrorBody)}}
    by_status: dict[int, list[str]] = {403: list(_GUARDS)}
    for kind in sorted(kinds):
        by_status.setdefault(ERROR_ROWS[kind].status, []).append(kind)
    return {
        status: {"description": ", ".join(names), "content": error}
        for status, names in sorted(by_status.items())
    }


def struct_schema(struct: type[msgspec.Struct]) -> Schema:
    """The JSON Schema of a msgspec Struct, without references."""
    schema = msgspec.json.schema(struct)
    resolved = _inlined(schema, schema.get("$defs", {}))
    assert isinstance(resolved, dict)
    return resolved


def _inlined(node: Any, definitions: Schema) -> Any:  # noqa: ANN401 - any JSON
    """``node`` with references replaced by what they name: inside a larger document they would lead nowhere.

    Our wire types are not recursive, so this ends.
    """
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if reference := node.get("$ref"):
        return _inlined(definitions[reference.removeprefix("#/$defs/")], definitions)
    return {
        key: {"propertyName": item["propertyName"]} if key == "discriminator" else _inlined(item, definitions)
        for key, item in node.items()
        if key != "$defs"
    }
