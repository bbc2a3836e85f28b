"""JSON Schemas from requests: what can be enforced, or a refusal that names the keyword."""

from __future__ import annotations

import json

from engine.constraint.schema_check import check_schema
from engine.errors import InvalidRequest
from tests.fuzz.byte_source import ByteSource
from tests.fuzz.target import Target, check_refusal

_KEYS = (
    *("type", "properties", "required", "items", "anyOf", "oneOf", "allOf", "prefixItems", "enum", "const"),
    *(
        "pattern",
        "patternProperties",
        "additionalProperties",
        "minimum",
        "maximum",
        "multipleOf",
        "minLength",
    ),
    *("maxItems", "minProperties", "format", "$ref", "$defs", "definitions", "$schema", "x-guidance", "x-a"),
    *("description", "title", "default", "not", "if", "a", "ä", ""),
)
_VALUES: tuple[object, ...] = (
    *("object", "string", "number", "#", "#/$defs/a", "[^a]\\x01", "\\u{110000}", "\\cA", "\x01", "\\"),
    *(0, 1, -1, 1.5, True, False, None, 2**70, 1e308, [], {}, ["a"], [{}], {"a": {}}),
    "https://json-schema.org/draft/2020-12/schema",
)
_DEEPEST = 12


def _schema(source: ByteSource, depth: int) -> object:
    if depth > _DEEPEST or source.is_empty or source.number(7) == 0:
        return source.choice(_VALUES)
    if source.number(5) == 0:
        return [_schema(source, depth + 1) for _ in range(source.number(3))]
    return {source.choice(_KEYS): _schema(source, depth + 1) for _ in range(source.number(4))}


def schema_text(source: ByteSource) -> str:
    """A schema that was put together, or any text."""
    if source.number(1):
        return json.dumps(_schema(source, 0))
    return source.rest().decode("utf-8", "replace")


def check(data: bytes) -> None:
    text = schema_text(ByteSource(data))
    try:
        plain = check_schema(text)
    except InvalidRequest as error:
        check_refusal(error)
        return
    json.loads(plain)
    assert check_schema(plain) == plain, "what is plain stays as it is"


TARGET = Target(
    "schema-check",
    "a schema is plain enough to be enforced to the letter, or refused with a typed error that can be sent",
    check,
    seeds=(
        b"\x00" + b'{"type":"object","properties":{"a":{"pattern":"^\\\\d+$"}},"required":["a"]}',
        b"\x00" + b'{"anyOf":[{"$ref":"#/$defs/a"},{"minimum":1e2}],"$defs":{"a":{"enum":["\\u0007",1]}}}',
        b"\x00" + b'{"properties":{"\\ud800":{"not":1}}}',
        b"\x00" + b'{"items":' * 99 + b"1" + b"}" * 99,
        b"\x01" + bytes(range(1, 120)),
    ),
    words=(
        *(b'"pattern":"', b'"$ref":"#"', b"\\ud800", b"\\u0001", b"[^", b"\\x0", b"\\\\u{", b"1e999", b"NaN"),
        *(key.encode() for key in _KEYS),
    ),
)
