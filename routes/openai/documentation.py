"""Our own OpenAPI document: the true schemas of the bodies that we read, and of what we answer."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import BaseModel

from routes.openai.errors import ERROR_ROWS, ErrorBody

Schema = dict[str, Any]  # JSON Schema, which no type describes


def request_body(model: type[BaseModel]) -> Schema:
    """The ``openapi_extra`` of a route that reads ``model`` from its raw body."""
    schema = model.model_json_schema()
    content = {"application/json": {"schema": _inlined(schema, schema.get("$defs", {}))}}
    return {"requestBody": {"required": True, "content": content}}


def answers(
    whole: type[msgspec.Struct], chunk: type[msgspec.Struct] | None = None
) -> dict[int | str, Schema]:
    """The ``responses`` of a route: what it answers, whole and per chunk of a stream, and every error."""
    content: Schema = {"application/json": {"schema": struct_schema(whole)}}
    if chunk:
        content["text/event-stream"] = {"schema": struct_schema(chunk)}
    found: dict[int | str, Schema] = {200: {"description": "The answer.", "content": content}}
    error = {"application/json": {"schema": struct_schema(ErrorBody)}}
    kinds: dict[int, list[str]] = {}
    for kind, row in ERROR_ROWS.items():
        kinds.setdefault(row.status, []).append(kind)
    for status, names in sorted(kinds.items()):
        found[status] = {"description": ", ".join(names), "content": error}
    return found


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
