"""The request fields that steer the model's chat template. All but ``reasoning_effort`` are vLLM's."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine.errors import InvalidRequest
from engine.prompt import ChatMessage, TemplateOptions
from routes.wire_body import WireObject

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
TemplateText = Annotated[str, Field(max_length=4096)]


class ChatTemplateKwargs(WireObject):
    """What a template may be told. One that the model's template does not read is refused by the engine."""

    enable_thinking: bool | None = None
    """Qwen's, GLM's and SmolLM's switch."""
    thinking: bool | None = None
    """DeepSeek's, Granite's and Kimi's switch."""
    preserve_thinking: bool | None = None
    clear_thinking: bool | None = None
    thinking_budget: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    reasoning_effort: Effort | None = None
    tools_in_user_message: bool | None = None
    """Llama's."""
    date_string: TemplateText | None = None
    """Llama's date of today."""
    model_identity: TemplateText | None = None
    """gpt-oss's first sentence."""


class TemplateFields(WireObject):
    reasoning_effort: Effort | None = None
    chat_template_kwargs: ChatTemplateKwargs | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    def template_options(self, messages: tuple[ChatMessage, ...]) -> TemplateOptions:
        """How to render ``messages``. Raises InvalidRequest for what contradicts itself or them."""
        kwargs = self.chat_template_kwargs.model_dump(exclude_none=True) if self.chat_template_kwargs else {}
        effort = kwargs.pop("reasoning_effort", None)
        if None not in (effort, self.reasoning_effort) and effort != self.reasoning_effort:
            param = "chat_template_kwargs.reasoning_effort"
            raise InvalidRequest(f"'{param}': contradicts 'reasoning_effort'.", param=param)
        continues = bool(self.continue_final_message)
        if continues:
            self._check_continued(messages)
        return TemplateOptions(
            adds_generation_prompt=not continues and self.add_generation_prompt is not False,
            continues_last=continues,
            reasoning_effort=self.reasoning_effort or effort,
            kwargs=kwargs,
        )

    def _check_continued(self, messages: tuple[ChatMessage, ...]) -> None:
        if self.add_generation_prompt:
            raise InvalidRequest(
                "'continue_final_message': the last message cannot be continued behind the beginning of another;"
                " leave out 'add_generation_prompt'.",
                param="continue_final_message",
            )
        last = messages[-1]
        if last.role != "assistant" or last.tool_calls:
            raise InvalidRequest(
                "'continue_final_message': the last message must be the assistant's, without tool calls.",
                param="continue_final_message",
            )
