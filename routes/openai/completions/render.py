"""A whole generation to a completion."""

from __future__ import annotations

from typing import Literal

import msgspec

from generation.events import FinishReason
from generation.fold import Generation
from routes.envelope import Envelope
from routes.openai.completions.logprobs import CompletionLogprobs, completion_logprobs
from routes.openai.timings import WireTimings, wire_timings
from routes.openai.usage import WireUsage


class CompletionChoice(msgspec.Struct, frozen=True):
    index: int
    text: str
    finish_reason: FinishReason
    logprobs: CompletionLogprobs | None = None
    timings: WireTimings | msgspec.UnsetType = msgspec.UNSET


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[CompletionChoice, ...]
    usage: WireUsage


def render(generation: Generation, envelope: Envelope) -> bytes:
    return msgspec.json.encode(
        Completion(
            id=envelope.id,
            created=envelope.created,
            model=envelope.model,
            system_fingerprint=envelope.fingerprint,
            choices=tuple(
                CompletionChoice(
                    choice.index,
                    choice.text,
                    choice.reason,
                    completion_logprobs(choice.logprobs),
                    timings=wire_timings(choice.timings, envelope),
                )
                for choice in generation.choices
            ),
            usage=WireUsage.of(generation.usage),
        )
    )
