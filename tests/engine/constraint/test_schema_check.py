from __future__ import annotations

import json

import pytest

from engine.constraint.schema_check import check_schema
from engine.errors import InvalidRequest


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"uniqueItems": True}, "`uniqueItems`"),
        ({"not": {}}, "`not`"),
        ({"if": {}}, "`if`"),
        ({"contains": {}}, "`contains`"),
        ({"propertyNames": {}}, "`propertyNames`"),
        ({"dependentRequired": {}}, "`dependentRequired`"),
        ({"dependencies": {}}, "`dependencies`"),
        ({"unevaluatedProperties": False}, "`unevaluatedProperties`"),
        ({"$dynamicRef": "#a"}, "`$dynamicRef`"),
        ({"nullable": True}, "`nullable`"),
        ({"additionalItems": False}, "`additionalItems`"),
        ({"x-guidance": {"lenient": True}}, "`x-guidance`"),
        ({"minlength": 3}, "`minlength`"),
        ({"items": [{}]}, "`prefixItems`"),
        ({"exclusiveMinimum": True}, "`exclusiveMinimum`"),
        ({"minLength": 1.5}, "`minLength`"),
        ({"maxItems": -1}, "`maxItems`"),
        ({"multipleOf": 0}, "`multipleOf`"),
        ({"pattern": 5}, "`pattern`"),
        ({"properties": []}, "`properties`"),
        ({"anyOf": []}, "`anyOf`"),
        ({"minProperties": 2}, "`minProperties`"),
        ({"minProperties": 3, "required": ["a", "b"]}, "`minProperties`"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "`$schema`"),
        ({"const": ["\x01"]}, "`const`"),
        ({"enum": [{"a": "\x7f"}]}, "`enum`"),
        ({"pattern": "^\x01$"}, "`pattern`"),
        ({"pattern": r"^\x01$"}, "`pattern`"),
        ({"pattern": r"^\u007f$"}, "`pattern`"),
        ({"pattern": r"\x{1f}"}, "`pattern`"),
        ({"pattern": r"\v"}, "`pattern`"),
        ({"patternProperties": {r"\x00": {}}}, "`pattern`"),
    ],
)
@pytest.mark.parametrize("where", ["#", "#/properties/a", "#/items", "#/$defs/b", "#/anyOf/0"])
def test_what_cannot_be_enforced_is_refused_by_name_wherever_it_stands(
    schema: object, named: str, where: str
) -> None:
    whole = {
        "#": schema,
        "#/properties/a": {"properties": {"a": schema}},
        "#/items": {"items": schema},
        "#/$defs/b": {"$defs": {"b": schema}},
        "#/anyOf/0": {"anyOf": [schema]},
    }[where]
    with pytest.raises(InvalidRequest) as refusal:
        check_schema(json.dumps(whole))
    assert named in refusal.value.message
    assert f"at {where}:" in refusal.value.message
    assert refusal.value.param == "response_format"


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"title": {"x-order": 3}}},
        {"properties": {"not": {"type": "string"}, "uniqueItems": {}}},
        {"const": {"not": 1, "nullable": "\n"}},
        {"minProperties": 1},
        {"minProperties": 2, "required": ["a", "b"]},
        {"pattern": r"^[^\x00-\x1f\\]+$"},
        {"pattern": r"\\x01"},
        {"pattern": "[" * 3},
        {"$schema": "https://json-schema.org/draft/2020-12/schema"},
        {"$schema": "http://json-schema.org/draft-07/schema#"},
        True,
    ],
)
def test_the_rest_passes(schema: object) -> None:
    assert json.loads(check_schema(json.dumps(schema))) == schema


def test_prose_is_left_out() -> None:
    schema = {"title": "T", "description": "D", "default": {"not": 1}, "examples": [{"if": 2}], "x-order": 3}
    whole = {**schema, "properties": {"description": {**schema, "type": "string"}}}
    kept = {"x-order": 3, "properties": {"description": {"x-order": 3, "type": "string"}}}
    assert json.loads(check_schema(json.dumps(whole))) == kept


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", '"a"', '{"minimum": NaN}', "[" * 50_000, '{"items":' * 10_000]
)
def test_what_is_no_schema_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        check_schema(text)


@pytest.mark.parametrize(
    "text", ['{"properties": {"\\ud800": {"not": 1}}}', '{"\\uDFFFx": 1}', '{"const": "\\ud83d"}']
)
def test_half_a_surrogate_pair_is_refused_in_words_that_can_be_sent(text: str) -> None:
    """Found by the fuzzer: an escape in the schema's text is a surrogate only once that is parsed."""
    with pytest.raises(InvalidRequest, match="surrogate") as refusal:
        check_schema(text)
    assert refusal.value.message.encode()
    check_schema('{"properties": {"\\ud83d\\ude42": {}}, "const": "\\\\ud800"}')


def test_brackets_in_strings_are_no_depth() -> None:
    check_schema(json.dumps({"enum": ["[" * 500, '\\"{' * 500]}))


def test_the_last_of_two_equal_keys_is_what_was_checked() -> None:
    assert check_schema('{"type": "string", "type": "null"}') == '{"type": "null"}'
