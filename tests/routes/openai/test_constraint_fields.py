"""What shape an answer must have: five fields, one of which may be given."""

from __future__ import annotations

import itertools
import json

import pytest

from engine.constraint.spec import ConstraintSpec, Gbnf, JsonObject, JsonSchema, Lark, Regex
from engine.errors import InvalidRequest
from generation.request import Constraint
from routes.json_body import validate
from routes.openai.chat.body import ChatCompletionBody
from routes.openai.chat.parse import parse

_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
_FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": _SCHEMA, "strict": True}}
_FIELDS: dict[str, tuple[object, ConstraintSpec]] = {
    "response_format": (_FORMAT, JsonSchema(json.dumps(_SCHEMA))),
    "json_schema": (_SCHEMA, JsonSchema(json.dumps(_SCHEMA))),
    "grammar": ('root ::= "x"', Gbnf('root ::= "x"')),
    "regex": ("x+", Regex("x+")),
    "lark": ('start: "x"', Lark('start: "x"')),
}


def constraint(**fields: object) -> Constraint | None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | fields
    return parse(validate(json.dumps(body).encode(), ChatCompletionBody, strict=True).value, "r").constraint


@pytest.mark.parametrize("name", _FIELDS)
def test_each_field_constrains_and_is_the_one_to_name(name: str) -> None:
    value, spec = _FIELDS[name]
    assert constraint(**{name: value}) == Constraint(spec, name)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(_FIELDS, 2)))
def test_two_are_refused(one: str, other: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        constraint(**{one: _FIELDS[one][0], other: _FIELDS[other][0]})
    assert refused.value.param == other


@pytest.mark.parametrize("other", [{"ignore_eos": True}, {"min_tokens": 1}])
def test_what_could_not_hold_beside_it_is_refused(other: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        constraint(regex="x", **other)
    assert refused.value.param == next(iter(other))


def test_text_is_no_constraint_and_json_object_any_object() -> None:
    assert constraint() is None
    assert constraint(response_format={"type": "text"}) is None
    assert constraint(response_format={"type": "json_object"}) == Constraint(JsonObject(), "response_format")
    nameless = {"type": "json_schema", "json_schema": {"name": "n"}}
    assert constraint(response_format=nameless) == Constraint(JsonObject(), "response_format")


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "xml"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {}},
        {"type": "json_schema", "json_schema": {"name": "no spaces"}},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": "x"}},
        {"type": "json_object", "schema": {}},
    ],
)
def test_other_formats_are_refused(response_format: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        constraint(response_format=response_format)
    assert (refused.value.param or "").startswith("response_format")
