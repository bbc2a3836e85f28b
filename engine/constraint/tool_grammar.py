"""Grammars of tool calls to plain Lark, for one vocabulary: markers may be control tokens in it, or mere text.

``%marker0`` is the first marker; ``%head0`` any text up to and with it; ``%text`` any text that does not hold it;
``%schema0`` JSON of the first schema, written with a blank behind commas and colons; ``%thought`` a thought, if
there is one, and ``%inside`` the rest of one that the prompt has begun.
"""

from __future__ import annotations

import json
import re

from engine.constraint.grammar import schema_with_options
from engine.constraint.schema_check import check_schema
from engine.constraint.spec import Lark, ToolGrammar
from engine.constraint.token_bytes import Vocabulary
from engine.errors import InvalidRequest

_PLACE = re.compile(r"%(marker|head|schema)(\d+)|%(text|thought|inside)\b")


def control_token(vocabulary: Vocabulary, text: str) -> int | None:
    """The token that ``text`` is and that makes no text itself; None where ``text`` is spelled out."""
    tokens = vocabulary.tokenize(text, add_special=False, parse_special=True)
    if tokens.size != 1 or vocabulary.piece(token := int(tokens[0])):
        return None
    return token if vocabulary.special_text(token) == text else None


def lark_of_tools(spec: ToolGrammar, vocabulary: Vocabulary) -> Lark:
    """Raises InvalidRequest, with the field that holds the schema, for a schema that cannot be enforced."""
    return _Reader(spec, vocabulary).lark()


class _Reader:
    """Fills the places of one grammar, and gathers the rules that they need."""

    def __init__(self, spec: ToolGrammar, vocabulary: Vocabulary) -> None:
        self._spec = spec
        self._vocabulary = vocabulary
        self._schemas = [_checked(schema, param) for schema, param in spec.schemas]
        self._rules: dict[str, str] = {}

    def lark(self) -> Lark:
        filled = _PLACE.sub(self._fill, self._spec.grammar)
        return Lark("\n".join([filled, *(f"{name}: {body}" for name, body in self._rules.items())]))

    def _fill(self, place: re.Match[str]) -> str:
        number = int(place[2] or 0)
        match place[1] or place[3]:
            case "schema":
                return f"%json {self._schemas[number]}"
            case "marker":
                return self._literal(self._spec.markers[number])
            case "head":
                return self._up_to(f"head{number}", self._spec.markers[number], self._beginning())
            case "text":
                self._rules["TEXT"] = self._text()
                return "TEXT"
            case kind:
                return self._thought(is_optional=kind == "thought")

    def _literal(self, text: str) -> str:
        token = control_token(self._vocabulary, text)
        return json.dumps(text, ensure_ascii=False) if token is None else f"<[{token}]>"

    def _up_to(self, name: str, marker: str, conditions: str) -> str:
        """Any text up to and with ``marker``."""
        terminal = name.upper()
        if control_token(self._vocabulary, marker) is not None:
            # Whoever reads the answer sees text alone, and must not find the marker spelled out in it.
            self._rules[terminal] = f"/(?s:.*)/ & ~/(?s:.*){_in_regex(marker)}(?s:.*)/{conditions}"
            return f"{terminal} {self._literal(marker)}"
        self._rules[terminal] = f"/(?s:.*){_in_regex(marker)}/{conditions}"
        self._rules[f"{name}[lazy]"] = terminal
        return name

    def _text(self) -> str:
        """Text without the marker that opens calls, be it spelled out."""
        return f"/(?s:.*)/ & ~/(?s:.*){_in_regex(self._spec.markers[0])}(?s:.*)/{self._beginning()}"

    def _beginning(self) -> str:
        """What tells free text from what else an answer may begin with."""
        tag = self._spec.thought[0] if self._spec.thought else ""
        return "".join(f" & ~/{_in_regex(text)}(?s:.*)/" for text in (self._spec.reserved, tag) if text)

    def _thought(self, *, is_optional: bool) -> str:
        if self._spec.thought is None or not (is_optional or self._spec.is_thinking):
            return ""
        opening, closing = self._spec.thought
        rest = self._up_to("thought_end", closing, "")
        if self._spec.is_thinking:
            return rest
        return f"({self._literal(opening)} {rest})?"


def _in_regex(text: str) -> str:
    return "".join(character if character.isalnum() else f"\\u{{{ord(character):x}}}" for character in text)


def _checked(schema: str, param: str) -> str:
    try:
        return schema_with_options(check_schema(schema), "spaced")
    except InvalidRequest as error:
        raise InvalidRequest(f"'{param}': {error.message}", param=param) from error
