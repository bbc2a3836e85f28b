"""Which JSON Schemas can be enforced to the letter. What cannot is refused here, by the name of its keyword.

llguidance ignores keywords that it does not know, and reads a few in ways of its own. A mask that enforces less
than the schema says would let a wrong answer end with ``stop``, so everything outside the tables below is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeAlias

from engine.errors import InvalidRequest

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_DEPTH = 100
"""Nesting of the schema's own JSON; llguidance's parser gives up at 128."""
PARAM = "response_format"

_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")
_SCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS = ("items", "additionalProperties")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNTS = ("minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength")
_STRINGS = ("pattern", "format", "$ref")
_VALUES = ("const", "enum", "type", "required")
_ANNOTATIONS = frozenset(
    {
        *("$schema", "$id", "$anchor", "$comment", "title", "description", "default", "examples", "example"),
        *("deprecated", "readOnly", "writeOnly", "contentMediaType", "contentEncoding", "discriminator"),
        # Said by other servers' clients of the order of keys, which here is the order of `properties`.
        "propertyOrdering",
    }
)
# Often most of a schema, and nothing to a grammar.
_PROSE = frozenset({"$comment", "title", "description", "default", "examples", "example"})
_ENFORCED = frozenset({*_NAMED_SCHEMAS, *_SCHEMA_LISTS, *_SCHEMAS, *_NUMBERS, *_COUNTS, *_STRINGS, *_VALUES})
# Later drafts only: draft 4 spells exclusive bounds as booleans.
_DRAFTS = tuple(
    f"json-schema.org/{draft}/schema" for draft in ("draft/2020-12", "draft/2019-09", "draft-07", "draft-06")
)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_NEGATED_SET = re.compile(r"\[\^(?:[^\]\\]|\\.)*\]")
_ESCAPE = re.compile(
    r"\\(?:(?:x(?=[0-9a-fA-F]{2})|u(?=[0-9a-fA-F]{4})|U(?=[0-9a-fA-F]{8}))(?P<code>(?<=x)..|(?<=u).{4}|(?<=U).{8})"
    r"|[xuU]\{(?P<braced>[0-9a-fA-F]+)\}|(?P<bell>[av])|.)",
    re.DOTALL,
)
_BRACKETS = re.compile(r"[\[{\]}]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_UNWRITABLE = frozenset(map(chr, (*range(0x20), 0x7F))) - frozenset("\b\f\n\r\t")


def check_schema(text: str) -> str:
    """The schema as JSON text that means to llguidance what it means to a validator.

    Raises InvalidRequest, with the keyword and where it stands, for what cannot be enforced.
    """
    schema = _read(text)
    for at, part in _subschemas(schema, "#"):
        _check(at, part)
        for keyword in _PROSE & part.keys():
            del part[keyword]
    return json.dumps(schema)


def _refuse(at: str, why: str) -> NoReturn:
    raise InvalidRequest(f"the JSON schema cannot be enforced at {at}: {why}", param=PARAM)


def _read(text: str) -> Json:
    depth = 0
    for bracket in _BRACKETS.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            _refuse("#", f"it is nested deeper than {MAX_DEPTH}")
    try:
        parsed: Json = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the JSON schema is not JSON: {error}", param=PARAM) from error
    if _SURROGATE_ESCAPE.search(text):
        _check_surrogates(parsed)
    return parsed


def _check_surrogates(parsed: Json) -> None:
    """Half a pair can be written as an escape, and not be said in any answer, a refusal included."""
    try:
        json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            "the JSON schema holds half of a surrogate pair, which is no character", param=PARAM
        ) from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _subschemas(schema: Json, at: str) -> Iterator[tuple[str, dict[str, Json]]]:
    """Every schema in ``schema``, itself included, that is an object, with a pointer to it."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        _refuse(at, "a schema is an object or a boolean")
    yield at, schema
    for keyword in _NAMED_SCHEMAS:
        named = schema.get(keyword, {})
        if not isinstance(named, dict):
            _refuse(at, f"`{keyword}` is an object of schemas")
        for name, child in named.items():
            yield from _subschemas(child, f"{at}/{keyword}/{name}")
    for keyword in _SCHEMA_LISTS:
        if keyword in schema:
            children = schema[keyword]
            if not isinstance(children, list) or not children:
                _refuse(at, f"`{keyword}` is a list of schemas, with at least one")
            for index, child in enumerate(children):
                yield from _subschemas(child, f"{at}/{keyword}/{index}")
    for keyword in _SCHEMAS:
        if keyword in schema:
            if isinstance(schema[keyword], list):
                _refuse(at, f"`{keyword}` is one schema; schemas by position are `prefixItems`")
            yield from _subschemas(schema[keyword], f"{at}/{keyword}")


def _check(at: str, schema: dict[str, Json]) -> None:
    for keyword, value in schema.items():
        if keyword not in _ENFORCED and keyword not in _ANNOTATIONS:
            # Also `x-guidance`, by which a schema could tell llguidance to be lenient.
            if not keyword.startswith("x-") or keyword == "x-guidance":
                _refuse(at, f"the keyword `{keyword}` is not supported")
            continue
        _check_type(at, keyword, value)
    _check_values(at, schema)
    _check_patterns(at, schema)
    _check_least_properties(at, schema)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Json) -> bool:
    return _is_number(value) and isinstance(value, int) and value >= 0


_TYPES: tuple[tuple[tuple[str, ...], Callable[[Json], bool], str], ...] = (
    (_NUMBERS, _is_number, "a number"),
    (_COUNTS, _is_count, "a whole number from 0 up"),
    (_STRINGS, lambda value: isinstance(value, str), "a string"),
)


def _check_type(at: str, keyword: str, value: Json) -> None:
    for keywords, is_right, wanted in _TYPES:
        if keyword in keywords and not is_right(value):
            _refuse(at, f"`{keyword}` is {wanted}")
    if keyword == "multipleOf" and isinstance(value, int | float) and value <= 0:
        _refuse(at, "`multipleOf` is above 0")
    if keyword == "$schema" and not (isinstance(value, str) and value.rstrip("#").endswith(_DRAFTS)):
        _refuse(at, "`$schema` names no draft from 6 to 2020-12")


def _check_values(at: str, schema: dict[str, Json]) -> None:
    """Strings with control characters that have no short escape would come out without them."""
    values: list[Json] = [schema[keyword] for keyword in ("const", "enum") if keyword in schema]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list):
            values += value
        elif isinstance(value, str) and not _UNWRITABLE.isdisjoint(value):
            _refuse(at, "`const` and `enum` take no control characters other than \\b, \\f, \\n, \\r and \\t")


def _check_patterns(at: str, schema: dict[str, Json]) -> None:
    """In a pattern, too, a control character would be left out; sets that exclude some are fine, and common."""
    named = schema.get("patternProperties", {})
    patterns: list[Json] = list(named) if isinstance(named, dict) else []
    if "pattern" in schema:
        patterns.append(schema["pattern"])
    for pattern in patterns:
        rest = _NEGATED_SET.sub("", pattern) if isinstance(pattern, str) else ""
        escaped = (hit["code"] or hit["braced"] for hit in _ESCAPE.finditer(rest))
        codes = {chr(int(code, 16)) for code in escaped if code and int(code, 16) < 0x110000}
        if not _UNWRITABLE.isdisjoint(codes.union(rest)) or any(
            hit["bell"] for hit in _ESCAPE.finditer(rest)
        ):
            _refuse(
                at, "`pattern` takes no control characters other than \\f, \\n, \\r and \\t outside of [^...]"
            )


def _check_least_properties(at: str, schema: dict[str, Json]) -> None:
    """A mask cannot keep the model from writing one key twice, which a reader then counts once."""
    least, required = schema.get("minProperties", 0), schema.get("required", [])
    listed = len(required) if isinstance(required, list) else 0
    if isinstance(least, int) and least > max(1, listed):
        _refuse(at, "`minProperties` above 1 is supported only up to the number of `required` properties")
