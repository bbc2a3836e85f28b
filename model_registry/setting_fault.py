"""What is wrong with a setting of a model, in words for whoever has set it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from model_registry.model_settings import ModelSettings

_UNBOUNDED = (1 << 31) - 1
"""A bound this high is the machine's, and no help to anybody."""


def setting_fault(error: msgspec.ValidationError) -> str:
    """What the setting that ``error`` is about must be. msgspec's own words are of types, which are ours."""
    message, _, place = str(error).partition(" - at `$.")
    name = place.strip("`").partition("[")[0]
    schema = _schemas().get(name)
    if schema is not None:
        return f"{name} must be {_wanted(schema)}"
    unknown = message.removeprefix("Object contains unknown field ").strip("`")
    return message if unknown == message else f"'{unknown}' is no setting of a model"


@cache
def _schemas() -> Mapping[str, dict[str, Any]]:
    """JSON Schemas of the values, by name, without the null that leaves them unset."""
    (settings,) = msgspec.json.schema(ModelSettings)["$defs"].values()
    return {
        name: next(each for each in schema["anyOf"] if each.get("type") != "null")
        for name, schema in settings["properties"].items()
    }


def _wanted(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    match schema["type"]:
        case "boolean":
            return "true or false"
        case "array":
            return "a list of names"
        case "string":
            return "a text that is not empty"
        case kind:
            return f"a {'whole number' if kind == 'integer' else 'number'} {_range(schema)}"


def _range(schema: Mapping[str, Any]) -> str:
    most = schema["maximum"]
    if "exclusiveMinimum" in schema:
        return f"above {schema['exclusiveMinimum']:,} and up to {most:,}"
    least = schema["minimum"]
    return f"from {least:,} up" if most >= _UNBOUNDED else f"from {least:,} to {most:,.0f}"
