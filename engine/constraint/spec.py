"""What a request demands of the shape of its answer. Crosses into the worker, which alone compiles it."""

from __future__ import annotations

from typing import Literal

import msgspec

MAX_SPEC_BYTES = 64 * 1024
MAX_TOOLS_BYTES = 256 * 1024
"""The schemas of all tools of a request: agents bring dozens, and most of each is description."""

Whitespace = Literal["spaced", "compact", "flexible"]
"""``spaced`` is ``{"a": 1, "b": 2}``, as models read it most; ``compact`` has no blanks; ``flexible`` leaves up to
32 of them to the model wherever JSON allows some. Only the first two let keys be forced from end to end."""


class JsonObject(msgspec.Struct, frozen=True, tag="json_object"):
    """Any JSON object."""

    whitespace: Whitespace = "flexible"


class JsonSchema(msgspec.Struct, frozen=True, tag="json_schema"):
    """JSON that ``schema`` (JSON text, draft 2020-12) describes."""

    schema: str
    whitespace: Whitespace = "spaced"


class Regex(msgspec.Struct, frozen=True, tag="regex"):
    """Text that ``pattern`` matches from end to end, in the syntax of Rust's ``regex``."""

    pattern: str


class Lark(msgspec.Struct, frozen=True, tag="lark"):
    """Text of a grammar in llguidance's dialect of Lark; its first rule is ``start``."""

    grammar: str


class Gbnf(msgspec.Struct, frozen=True, tag="gbnf"):
    """Text of a grammar in llama.cpp's notation; its first rule is ``root``. llama.cpp itself never sees it."""

    grammar: str


class ToolGrammar(msgspec.Struct, frozen=True, tag="tools"):
    """Tool calls, or text with some, in the notation of a family of models (see ``engine.constraint.tool_grammar``)."""

    grammar: str
    schemas: tuple[tuple[str, str], ...]
    """JSON text of each schema, and the field of the request that holds it."""
    markers: tuple[str, ...]
    """Texts that may be control tokens; the first opens calls."""
    reserved: str = ""
    """What free text does not begin with."""
    thought: tuple[str, str] | None = None
    """The tags of a thought before the answer, in which markers mean nothing."""
    is_thinking: bool = False
    """Whether the prompt has opened the thought already."""


ConstraintSpec = JsonObject | JsonSchema | Regex | Lark | Gbnf | ToolGrammar


def source_of(spec: ConstraintSpec) -> str:
    """What the client wrote; empty for a JSON object."""
    match spec:
        case JsonObject():
            return ""
        case JsonSchema(schema=schema):
            return schema
        case Regex(pattern=pattern):
            return pattern
        case Lark(grammar=grammar) | Gbnf(grammar=grammar):
            return grammar
        case ToolGrammar(grammar=grammar, schemas=schemas):
            return "\n".join([grammar, *(schema for schema, _ in schemas)])
