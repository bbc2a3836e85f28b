"""The messages of a chat, as they come over the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from engine.errors import InternalError
from routes.not_served import UNSUPPORTED_FIELD, NotServed
from routes.wire_body import WireObject


class TextPart(WireObject):
    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: Annotated[object, NotServed("shared heads of prompts are found without it")] = (
        None
    )


class RefusalPart(WireObject):
    type: Literal["refusal"]
    refusal: str


class MediaPart(WireObject):
    """Known, and refused by its type."""

    model_config = ConfigDict(extra="allow")

    type: Literal["image_url", "input_audio", "file"]

    @field_validator("type")
    @classmethod
    def _refuse(cls, part_type: str) -> str:
        raise PydanticCustomError(UNSUPPORTED_FIELD, "this server serves parts of type 'text' only")


Part = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
UserPart = Annotated[TextPart | SkipJsonSchema[MediaPart], Field(discriminator="type")]
TextContent = str | Annotated[list[UserPart], Field(min_length=1, fail_fast=True)]
AssistantContent = str | Annotated[list[Part], Field(min_length=1, fail_fast=True)]


class InstructionMessage(WireObject):
    """``developer`` is OpenAI's newer word for ``system``; chat templates know the older one."""

    role: Literal["system", "developer"]
    content: TextContent
    name: str | None = None

    def text(self) -> str:
        return joined(self.content)


class UserMessage(WireObject):
    role: Literal["user"]
    content: TextContent
    name: str | None = None

    def text(self) -> str:
        return joined(self.content)


class AssistantMessage(WireObject):
    """What the model said before. ``content`` may be null only where ``refusal`` says it instead."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: str | None = None
    name: str | None = None
    audio: Annotated[object, NotServed("models speak text only")] = None
    tool_calls: Annotated[object, NotServed("tools are not there yet", ([],))] = None
    function_call: Annotated[object, NotServed("tools are not there yet")] = None

    def text(self) -> str | None:
        return None if self.content is None else joined(self.content)


class ToolMessage(WireObject):
    """Known, and refused by its role."""

    model_config = ConfigDict(extra="allow")

    role: Literal["tool", "function"]

    @field_validator("role")
    @classmethod
    def _refuse(cls, role: str) -> str:
        raise PydanticCustomError(UNSUPPORTED_FIELD, "this server does not serve tools yet")


Message = Annotated[
    InstructionMessage | UserMessage | AssistantMessage | SkipJsonSchema[ToolMessage],
    Field(discriminator="role"),
]


def joined(content: str | Sequence[TextPart | RefusalPart | MediaPart]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_text(part) for part in content)


def _text(part: TextPart | RefusalPart | MediaPart) -> str:
    match part:
        case TextPart():
            return part.text
        case RefusalPart():
            return part.refusal
        case MediaPart():
            raise InternalError("a part that is refused was accepted")
