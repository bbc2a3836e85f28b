"""Random JSON Schemas out of everything that is enforced."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]
_NAMES = ("a", "alpha", "b c", "é", 'q"uote', "back\\slash", "", "a/b", "new\nline", "x_1", "1", "\x01")
_PATTERNS = ("^[a-c]{2,4}$", "b+", "^(foo|bar)?$", "^[^a-z]*x", r"^\d{3}-\w$", "é$", "a.c", r"^\s?[A-Z]")
_FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "ipv6", "email", "hostname")
_names = st.sampled_from(_NAMES)
_counts = st.integers(0, 4)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-999, 999),
    st.sampled_from([0.5, -1.25, 1e3]),
    st.text('aé"\\\n/ 日😀\t', max_size=4),
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=2),
    max_leaves=4,
)


@st.composite
def _bounds(draw: st.DrawFn, least: str, most: str) -> Schema:
    low, span = draw(_counts), draw(_counts)
    return draw(st.sampled_from([{}, {least: low}, {most: low}, {least: low, most: low + span}]))


@st.composite
def _strings(draw: st.DrawFn) -> Schema:
    kind = draw(st.sampled_from(["plain", "bounded", "pattern", "format"]))
    match kind:
        case "bounded":
            return {"type": "string", **draw(_bounds("minLength", "maxLength"))}
        case "pattern":
            return {"type": "string", "pattern": draw(st.sampled_from(_PATTERNS))}
        case "format":
            return {"type": "string", "format": draw(st.sampled_from(_FORMATS))}
        case _:
            return {"type": "string"}


@st.composite
def _numbers(draw: st.DrawFn) -> Schema:
    schema: Schema = {"type": draw(st.sampled_from(["integer", "number"]))}
    low, span = draw(st.integers(-120, 120)), draw(st.integers(1, 300))
    fraction = draw(st.sampled_from([0.0, 0.5, 0.125])) if schema["type"] == "number" else 0
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low + fraction
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = low + span + fraction
    if schema["type"] == "integer" and draw(st.booleans()):
        schema["multipleOf"] = draw(st.sampled_from([1, 2, 3, 7, 10]))
    return schema


@st.composite
def _arrays(draw: st.DrawFn, inner: st.SearchStrategy[Schema]) -> Schema:
    schema: Schema = {"type": "array", **draw(_bounds("minItems", "maxItems"))}
    if draw(st.booleans()):
        schema["items"] = draw(inner)
    if draw(st.booleans()):
        schema["prefixItems"] = draw(st.lists(inner, min_size=1, max_size=3))
    return schema


@st.composite
def _objects(draw: st.DrawFn, inner: st.SearchStrategy[Schema]) -> Schema:
    properties = draw(st.dictionaries(_names, inner, max_size=4))
    schema: Schema = {"type": "object", "properties": properties}
    names = sorted(properties)
    schema["required"] = [name for name in names if draw(st.booleans())]
    more = draw(st.sampled_from(["no", "any", "schema", "default"]))
    if more == "schema":
        schema["additionalProperties"] = draw(inner)
    elif more != "default":
        schema["additionalProperties"] = more == "any"
    if draw(st.integers(0, 4)) == 0:
        schema["patternProperties"] = {"^x_": draw(inner)}
    if draw(st.integers(0, 4)) == 0:
        schema["required"] = names
        schema |= draw(st.sampled_from([{"minProperties": 1}, {"maxProperties": len(names) + 1}]))
    return schema


def _composed(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.one_of(
        _arrays(inner),
        _objects(inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
        st.tuples(inner, inner).map(lambda both: {"allOf": list(both)}),
        _objects(inner).map(lambda schema: {"oneOf": [schema, {"type": "null"}]}),
        inner.map(lambda schema: {**schema, "title": "A title", "examples": [1]}),
    )


_leaves = st.one_of(
    _strings(),
    _numbers(),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {}]),
    _values.map(lambda value: {"const": value}),
    st.lists(_values, min_size=1, max_size=4).map(lambda values: {"enum": values}),
)
_trees = st.recursive(_leaves, _composed, max_leaves=6)


@st.composite
def _recursive(draw: st.DrawFn) -> Schema:
    """A linked list of whatever, by reference to itself."""
    node = {
        "type": "object",
        "properties": {
            "value": draw(_trees),
            "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        },
        "required": ["value", "next"],
        "additionalProperties": False,
    }
    return {"$defs": {"node": node}, "$ref": "#/$defs/node"}


schemas: st.SearchStrategy[Schema] = st.one_of(_objects(_trees), _trees, _recursive())


def around(schema: Schema) -> str:
    """Parameters with one argument, ``x``; references lead from the root."""
    parameters: Schema = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    if definitions := schema.pop("$defs", None):
        parameters["$defs"] = definitions
    return json.dumps(parameters)
