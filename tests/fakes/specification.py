"""OpenAI's specification, where it lies beside the checkout; tests that need it skip where it does not."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

_PATH = Path(__file__).resolve().parents[3] / "shared" / "openai" / "openapi.json"

Schema = dict[str, Any]


@cache
def _load() -> Schema:
    loaded = _nullable_to_union(json.loads(_PATH.read_text()))
    assert isinstance(loaded, dict)
    return loaded


def specification() -> Schema:
    if not _PATH.exists():
        pytest.skip("OpenAI's specification is not beside this checkout")
    return _load()


def properties(name: str) -> Schema:
    """The properties of a schema, those that it takes over from others included."""
    schemas: Schema = specification()["components"]["schemas"]

    def gather(schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = schemas[schema["$ref"].rpartition("/")[2]]
        found: Schema = {}
        for part in schema.get("allOf", ()):
            found |= gather(part)
        return {**found, **schema.get("properties", {})}

    return gather(schemas[name])


def validate(answer: object, name: str) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": specification()["components"]}
    jsonschema.Draft202012Validator(schema).validate(answer)


def _nullable_to_union(node: Any) -> Any:
    """OpenAPI 3.0's ``nullable``, which JSON Schema does not know, as a union with null."""
    if isinstance(node, list):
        return [_nullable_to_union(item) for item in node]
    if not isinstance(node, dict):
        return node
    rest = {key: _nullable_to_union(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [rest, {"type": "null"}]} if node.get("nullable") is True else rest
