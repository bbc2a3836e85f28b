"""The body of a chat completion request: every field of the specification, honoured or refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from engine.constraint.spec import ConstraintSpec
from routes.not_served import NotServed
from routes.openai.chat.message import Message, TextPart, joined
from routes.openai.chat.template_fields import TemplateFields
from routes.openai.chat.tools import FunctionChoice, Functions, ToolChoice, Tools
from routes.openai.constraint_fields import ConstraintFields, ResponseFormat, format_spec
from routes.openai.sampling_fields import Count
from routes.wire_body import WireObject

_MOST_METADATA = 16  # OpenAI's limit


def _bound_metadata(value: object) -> object:
    """Before its items are looked at, because each that is wrong would be an error of its own."""
    if isinstance(value, dict) and len(value) > _MOST_METADATA:
        raise PydanticCustomError("too_many", "has more than {most} pairs", {"most": _MOST_METADATA})
    return value


Metadata = Annotated[
    dict[str, str],
    BeforeValidator(_bound_metadata, json_schema_input_type=dict[str, str]),
    Field(max_length=16),
]


class Prediction(WireObject):
    """What the client expects the answer to be, such as a file of which it wants little changed."""

    type: Literal["content"]
    content: str | Annotated[list[TextPart], Field(min_length=1, fail_fast=True)]

    def text(self) -> str:
        return joined(self.content)


class ChatCompletionBody(ConstraintFields, TemplateFields):
    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)]
    max_completion_tokens: Count | None = None

    # These only label a request: nothing depends on them.
    metadata: Metadata | None = None
    safety_identifier: Annotated[str, Field(max_length=64)] | None = None
    prompt_cache_key: str | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Annotated[object, NotServed("answers are not kept", (False,))] = None

    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Functions | None = None
    function_call: FunctionChoice | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    modalities: Annotated[object, NotServed("models speak text only", (["text"],))] = None
    audio: Annotated[object, NotServed("models speak text only")] = None
    verbosity: Annotated[object, NotServed("models have no such switch", ("medium",))] = None
    prediction: Prediction | None = None
    web_search_options: Annotated[object, NotServed("a local model does not search the web")] = None
    moderation: Annotated[object, NotServed("there is no moderation model")] = None
    prompt_cache_retention: Annotated[
        object, NotServed("the prefix cache lives in memory", ("in_memory",))
    ] = None
    prompt_cache_options: Annotated[object, NotServed("the prefix cache has one policy for all", ({},))] = (
        None
    )

    def _specs(self) -> dict[str, ConstraintSpec | None]:
        openais = None if self.response_format is None else format_spec(self.response_format)
        return {"response_format": openais, **super()._specs()}
