"""Chat completion body to canonical request."""

from __future__ import annotations

from engine.errors import InvalidRequest
from engine.prompt import ChatMessage, ChatPrompt
from generation.request import GenerationRequest
from routes.openai.chat.body import ChatCompletionBody
from routes.openai.chat.message import Message, ToolMessage


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
        request_id=request_id,
    )


def _message(message: Message, index: int) -> ChatMessage:
    text = None if isinstance(message, ToolMessage) else message.text()
    if text is None:
        raise InvalidRequest(
            f"'messages[{index}].content': may be null only beside tool calls or a refusal.",
            param=f"messages[{index}].content",
        )
    role = "system" if message.role == "developer" else message.role
    return ChatMessage(
        role=role, content=text, name=None if isinstance(message, ToolMessage) else message.name
    )


def _max_tokens(body: ChatCompletionBody) -> int | None:
    old, new = body.max_tokens, body.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise InvalidRequest(
            f"'max_tokens': {old} contradicts 'max_completion_tokens', {new}. Send only the latter.",
            param="max_tokens",
        )
    return old if new is None else new
