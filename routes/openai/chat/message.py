"""The messages of a chat, as they come over the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints, field_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from engine.errors import InternalError
from routes.not_served import UNSUPPORTED_FIELD, NotServed
from routes.openai.chat.tools import FunctionName
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


Id = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class CalledFunction(WireObject):
    """``arguments`` is the text of a JSON object; ``parse`` refuses any other."""

    name: FunctionName
    arguments: str


class FunctionCall(WireObject):
    type: Literal["function"]
    id: Id
    function: CalledFunction


class CustomCall(WireObject):
    """Known, and refused by its type."""

    model_config = ConfigDict(extra="allow")

    type: Literal["custom"]

    @field_validator("type")
    @classmethod
    def _refuse(cls, call_type: str) -> str:
        raise PydanticCustomError(UNSUPPORTED_FIELD, "this server serves tools of type 'function' only")


Call = Annotated[FunctionCall | SkipJsonSchema[CustomCall], Field(discriminator="type")]


class AssistantMessage(WireObject):
    """What the model said before. ``content`` may be null only where ``refusal`` or calls say it instead."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: str | None = None
    name: str | None = None
    audio: Annotated[object, NotServed("models speak text only")] = None
    tool_calls: Annotated[list[Call], Field(max_length=128, fail_fast=True)] | None = None
    function_call: CalledFunction | None = None
    reasoning_content: str | None = None
    """What it thought, as answers tell it: clients send back what they got. The template decides what of it counts."""
    reasoning: str | None = None
    """The same: one of the two is enough."""

    def text(self) -> str | None:
        return None if self.content is None else joined(self.content)


class ToolMessage(WireObject):
    """What a tool answered to the call of that id."""

    role: Literal["tool"]
    content: TextContent
    tool_call_id: Id

    def text(self) -> str:
        return joined(self.content)


class FunctionMessage(WireObject):
    """The older word for a tool's answer: to the last call of that function."""

    role: Literal["function"]
    content: str | None
    name: FunctionName


Message = Annotated[
    InstructionMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage,
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
