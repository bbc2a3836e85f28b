"""The request fields that say what shape an answer must have; chat and completions share all but OpenAI's own.

At most one of them may be given: two constraints would be a third one that nobody wrote.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from engine.constraint.spec import ConstraintSpec, Gbnf, JsonObject, JsonSchema, Lark, Regex
from engine.errors import InvalidRequest
from generation.request import Constraint
from routes.openai.sampling_fields import SamplingFields
from routes.wire_body import WireObject

Grammar = Annotated[str, StringConstraints(min_length=1, max_length=65_536)]


class TextFormat(WireObject):
    type: Literal["text"]


class JsonObjectFormat(WireObject):
    type: Literal["json_object"]


class NamedSchema(WireObject):
    """A schema with a name. It is enforced whatever ``strict`` says: an answer that validates is what both ask for."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class JsonSchemaFormat(WireObject):
    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class ConstraintFields(SamplingFields):
    """``grammar`` (GBNF) and ``json_schema`` are llama.cpp's names; ``regex`` and ``lark`` are ours."""

    json_schema: dict[str, Any] | None = None
    grammar: Grammar | None = None
    regex: Grammar | None = None
    lark: Grammar | None = None

    def constraint(self) -> Constraint | None:
        """The one constraint of the request. Raises InvalidRequest for two, or for one that could not hold."""
        given = {name: spec for name, spec in self._specs().items() if spec is not None}
        if len(given) > 1:
            *others, last = given
            raise InvalidRequest(f"'{last}': '{others[0]}' is given as well; send one of them.", param=last)
        for name, spec in given.items():
            for other in ("ignore_eos", "min_tokens"):
                if getattr(self, other):
                    raise InvalidRequest(
                        f"'{other}': the answer ends where '{name}' makes it whole; send one or the other.",
                        param=other,
                    )
            return Constraint(spec, name)
        return None

    def _specs(self) -> dict[str, ConstraintSpec | None]:
        """Each field that can hold a constraint, and the constraint it holds."""
        return {
            "json_schema": None if self.json_schema is None else JsonSchema(json.dumps(self.json_schema)),
            "grammar": None if self.grammar is None else Gbnf(self.grammar),
            "regex": None if self.regex is None else Regex(self.regex),
            "lark": None if self.lark is None else Lark(self.lark),
        }


def format_spec(response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat) -> ConstraintSpec | None:
    """What OpenAI's ``response_format`` demands."""
    match response_format:
        case TextFormat():
            return None
        case JsonObjectFormat():
            return JsonObject()
        case JsonSchemaFormat(json_schema=named):
            return JsonObject() if named.schema_ is None else JsonSchema(json.dumps(named.schema_))
