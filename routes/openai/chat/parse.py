"""Chat completion body to canonical request."""

from __future__ import annotations

from engine.errors import InternalError, InvalidRequest
from engine.prompt import ChatMessage, ChatPrompt
from generation.request import GenerationRequest
from routes.openai.chat.body import ChatCompletionBody
from routes.openai.chat.message import (
    AssistantMessage,
    InstructionMessage,
    Message,
    ToolMessage,
    UserMessage,
)


def parse(body: ChatCompletionBody, request_id: str) -> GenerationRequest:
    """Raises InvalidRequest for what no field can tell alone."""
    max_tokens = _max_tokens(body)
    body.check(prompts=1, max_tokens=max_tokens, multiplier="n")
    return GenerationRequest(
        model=body.model,
        prompts=(ChatPrompt(tuple(_message(item, index) for index, item in enumerate(body.messages))),),
        n=body.choices_per_prompt,
        max_tokens=max_tokens,
        min_tokens=body.min_tokens or 0,
        ignore_eos=bool(body.ignore_eos),
        stop=body.stop_strings,
        sampling=body.sampling_params(),
        constraint=body.constraint(),
        prediction=body.prediction.text() if body.prediction else None,
        request_id=request_id,
    )


def _message(message: Message, index: int) -> ChatMessage:
    match message:
        case InstructionMessage() | UserMessage():
            role = "user" if isinstance(message, UserMessage) else "system"
            return ChatMessage(role=role, content=message.text(), name=message.name)
        case AssistantMessage():
            return ChatMessage(role="assistant", content=_said(message, index), name=message.name)
        case ToolMessage():
            raise InternalError("a message that is refused was accepted")


def _said(message: AssistantMessage, index: int) -> str:
    if (content := message.text()) is None:
        if message.refusal is not None:
            return message.refusal
        param = f"messages[{index}].content"
        raise InvalidRequest(f"'{param}': may be null only beside tool calls or a refusal.", param=param)
    if message.refusal is not None:
        param = f"messages[{index}].refusal"
        raise InvalidRequest(f"'{param}': a message has a content or a refusal, not both.", param=param)
    return content


def _max_tokens(body: ChatCompletionBody) -> int | None:
    old, new = body.max_tokens, body.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise InvalidRequest(
            f"'max_tokens': {old} contradicts 'max_completion_tokens', {new}. Send only the latter.",
            param="max_tokens",
        )
    return old if new is None else new
