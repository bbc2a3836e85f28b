"""Specs to llguidance's own grammar text, and the limits under which llguidance works."""

from __future__ import annotations

import json

from llguidance import LLMatcher, LLParserLimits

from engine.constraint.gbnf import lark_of_gbnf
from engine.constraint.spec import (
    ConstraintSpec,
    Gbnf,
    JsonObject,
    JsonSchema,
    Lark,
    Regex,
    ToolGrammar,
    Whitespace,
)

_SEPARATORS: dict[Whitespace, dict[str, str | bool]] = {
    "spaced": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "},
    "compact": {"whitespace_flexible": False},
    # Bounded: small models are known to write blanks until the limit.
    "flexible": {"whitespace_pattern": r"[ \n\r\t]{1,32}"},
}
_JSON_OPTIONS: dict[str, str | bool] = {
    # Without \u: llguidance would take "\u0061" for a key other than "a", and let it have another key's schema.
    "json_allowed_escapes": 'nrbtf\\"',
    "lenient": False,
    "coerce_one_of": False,
}


def grammar_of(spec: ConstraintSpec) -> str:
    """The grammar of ``spec`` as llguidance reads it; a JSON schema was checked before. Raises ValueError.

    May take seconds for a hostile GBNF grammar, all of them with the interpreter's lock held.
    """
    match spec:
        case JsonObject(whitespace=whitespace):
            return _json('{"type": "object"}', whitespace)
        case JsonSchema(schema=schema, whitespace=whitespace):
            return _json(schema, whitespace)
        case Regex(pattern=pattern):
            return LLMatcher.grammar_from_regex(pattern)
        case Lark(grammar=grammar):
            return LLMatcher.grammar_from_lark(grammar)
        case Gbnf(grammar=grammar):
            return LLMatcher.grammar_from_lark(lark_of_gbnf(grammar))
        case ToolGrammar():
            raise ValueError("a grammar of tools is made plain for its vocabulary first")


def _json(schema: str, whitespace: Whitespace) -> str:
    options = _JSON_OPTIONS | _SEPARATORS[whitespace]
    return LLMatcher.grammar_from_json_schema(_as_object(schema), overrides=options)  # type: ignore[arg-type]


def _as_object(schema: str) -> str:
    # llguidance puts its options into the schema, and a boolean has no place for them.
    parsed = json.loads(schema)
    return json.dumps({"allOf": [parsed]}) if isinstance(parsed, bool) else schema


def schema_with_options(schema: str, whitespace: Whitespace) -> str:
    """``schema``, which was checked before, as text that can stand behind ``%json`` in a Lark grammar."""
    options = _JSON_OPTIONS | _SEPARATORS[whitespace]
    return json.dumps(json.loads(_as_object(schema)) | {"x-guidance": options})


def limits() -> LLParserLimits:
    """What one grammar may cost. Honest ones need a tenth of it; each bounds a step to some tens of milliseconds."""
    return LLParserLimits(
        # 64 KB of enum need 50,000. At llguidance's own 1,000,000, (a{1000}){1000} computes for a second.
        initial_lexer_fuel=100_000,
        # A state takes 1 to 2 KB: some 60 MB, against half a gigabyte.
        max_lexer_states=32_000,
        # Without it an error tells the client the parser's state, and the log the answer.
        verbose_errors=False,
    )
