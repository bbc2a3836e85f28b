"""The fields by which a chat request offers tools, and chooses among them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, StringConstraints, Tag, field_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from routes.not_served import UNSUPPORTED_FIELD
from routes.wire_body import WireObject

MOST_TOOLS = 128  # OpenAI's limit
FunctionName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
_FUNCTIONS_ONLY = "this server serves tools of type 'function' only"


def _of_an_object(schema: dict[str, Any]) -> dict[str, Any]:
    """Arguments are an object, in every notation of calls and in OpenAI's; a schema without a type means one."""
    if schema.get("type", "object") != "object":
        raise PydanticCustomError("parameters", "should describe an object, with 'type': 'object'")
    return {"type": "object", **schema}


Parameters = Annotated[dict[str, Any], AfterValidator(_of_an_object)]
"""JSON Schema of a function's arguments."""


class Function(WireObject):
    """Arguments fit their schema whatever ``strict`` says: that is what both values ask for."""

    name: FunctionName
    description: str | None = None
    parameters: Parameters | None = None
    strict: bool | None = None


class FunctionTool(WireObject):
    type: Literal["function"]
    function: Function


class CustomTool(WireObject):
    """Known, and refused by its type."""

    model_config = ConfigDict(extra="allow")

    type: Literal["custom"]

    @field_validator("type")
    @classmethod
    def _refuse(cls, tool_type: str) -> str:
        raise PydanticCustomError(UNSUPPORTED_FIELD, _FUNCTIONS_ONLY)


OfferedTool = Annotated[FunctionTool | SkipJsonSchema[CustomTool], Field(discriminator="type")]
Tools = Annotated[list[OfferedTool], Field(max_length=MOST_TOOLS, fail_fast=True)]


class LegacyFunction(WireObject):
    name: FunctionName
    description: str | None = None
    parameters: Parameters | None = None


Functions = Annotated[list[LegacyFunction], Field(min_length=1, max_length=MOST_TOOLS, fail_fast=True)]


class NamedFunction(WireObject):
    name: FunctionName


class NamedChoice(WireObject):
    type: Literal["function"]
    function: NamedFunction


class AllowedTool(WireObject):
    type: Literal["function"]
    function: NamedFunction


class AllowedTools(WireObject):
    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedTool], Field(min_length=1, max_length=MOST_TOOLS, fail_fast=True)]


class AllowedChoice(WireObject):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class CustomChoice(CustomTool):
    """Known, and refused by its type."""


def _kind(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", "mode")
    return kind if isinstance(kind, str) else "function"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("mode")]
    | Annotated[NamedChoice, Tag("function")]
    | Annotated[AllowedChoice, Tag("allowed_tools")]
    | SkipJsonSchema[Annotated[CustomChoice, Tag("custom")]],
    Discriminator(_kind),
]
FunctionChoice = Literal["none", "auto"] | NamedFunction
