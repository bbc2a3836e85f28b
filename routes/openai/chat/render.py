"""A whole generation to a chat completion."""

from __future__ import annotations

from typing import Literal

import msgspec

from generation.events import FinishReason
from generation.fold import Choice, Generation
from routes.envelope import Envelope
from routes.openai.chat.logprobs import ChatLogprobs, chat_logprobs
from routes.openai.chat.tool_call import WireFunction, WireToolCall
from routes.openai.timings import WireTimings, wire_timings
from routes.openai.usage import WireUsage


class AnswerMessage(msgspec.Struct, frozen=True):
    content: str | None
    """Null where there is nothing but thoughts and calls."""
    role: Literal["assistant"] = "assistant"
    refusal: str | None = None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    """What the model thought; absent where it told of no thoughts."""
    reasoning: str | msgspec.UnsetType = msgspec.UNSET
    """The same: clients read one or the other."""
    tool_calls: tuple[WireToolCall, ...] | msgspec.UnsetType = msgspec.UNSET
    function_call: WireFunction | msgspec.UnsetType = msgspec.UNSET
    """The older shape of a call, for requests with ``functions``."""


class ChatChoice(msgspec.Struct, frozen=True):
    index: int
    message: AnswerMessage
    finish_reason: FinishReason
    logprobs: ChatLogprobs | None = None
    timings: WireTimings | msgspec.UnsetType = msgspec.UNSET


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChatChoice, ...]
    usage: WireUsage


def _message(choice: Choice) -> AnswerMessage:
    thoughts = choice.reasoning or msgspec.UNSET
    calls = tuple(
        WireToolCall(id=call.id, function=WireFunction(call.name, call.arguments))
        for call in choice.calls
        if call.id is not None
    )
    functions = [WireFunction(call.name, call.arguments) for call in choice.calls if call.id is None]
    return AnswerMessage(
        None if choice.is_silent else choice.text,
        reasoning_content=thoughts,
        reasoning=thoughts,
        tool_calls=calls or msgspec.UNSET,
        function_call=functions[0] if functions else msgspec.UNSET,
    )


def render(generation: Generation, envelope: Envelope) -> bytes:
    return msgspec.json.encode(
        ChatCompletion(
            id=envelope.id,
            created=envelope.created,
            model=envelope.model,
            system_fingerprint=envelope.fingerprint,
            choices=tuple(
                ChatChoice(
                    choice.index,
                    _message(choice),
                    choice.reason,
                    chat_logprobs(choice.logprobs),
                    timings=wire_timings(choice.timings, envelope),
                )
                for choice in generation.choices
            ),
            usage=WireUsage.of(generation.usage),
        )
    )
