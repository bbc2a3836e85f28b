"""A whole generation to a chat completion."""

from __future__ import annotations

from typing import Literal

import msgspec

from generation.events import FinishReason
from generation.fold import Generation
from routes.envelope import Envelope
from routes.openai.timings import WireTimings, wire_timings
from routes.openai.usage import WireUsage


class AnswerMessage(msgspec.Struct, frozen=True):
    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: str | None = None


class ChatChoice(msgspec.Struct, frozen=True):
    index: int
    message: AnswerMessage
    finish_reason: FinishReason
    logprobs: None = None
    timings: WireTimings | msgspec.UnsetType = msgspec.UNSET


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChatChoice, ...]
    usage: WireUsage


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
                    AnswerMessage(choice.text),
                    choice.reason,
                    timings=wire_timings(choice.timings, envelope),
                )
                for choice in generation.choices
            ),
            usage=WireUsage.of(generation.usage),
        )
    )
