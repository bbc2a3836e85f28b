"""Canonical events to completion chunks."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.token_logprob import TokenLogprob
from generation.events import Finished, FinishReason, Usage
from routes.envelope import Envelope
from routes.openai.chunk_encoder import ChoiceEvent, ChunkEncoder
from routes.openai.completions.body import CompletionBody
from routes.openai.completions.logprobs import CompletionLogprobs, completion_logprobs
from routes.openai.timings import WireTimings, wire_timings
from routes.openai.usage import WireUsage


class ChunkChoice(msgspec.Struct, frozen=True):
    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None
    """Null before the end, as OpenAI sends it, though its specification has no schema for chunks alone."""
    timings: WireTimings | msgspec.UnsetType = msgspec.UNSET


class CompletionChunk(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChunkChoice, ...]
    usage: WireUsage | msgspec.UnsetType | None = msgspec.UNSET
    obfuscation: str | msgspec.UnsetType = msgspec.UNSET


class CompletionEncoder(ChunkEncoder):
    def __init__(self, envelope: Envelope, *, include_usage: bool, include_obfuscation: bool) -> None:
        super().__init__(include_usage=include_usage, include_obfuscation=include_obfuscation)
        self._envelope = envelope
        self._no_usage = None if include_usage else msgspec.UNSET

    def first_chunk(self, first: ChoiceEvent) -> None:
        return None

    def text_chunk(
        self,
        choice: int,
        text: str,
        obfuscation: str | msgspec.UnsetType,
        logprobs: tuple[TokenLogprob, ...] | None = None,
    ) -> CompletionChunk:
        shown = completion_logprobs(logprobs)
        return self._chunk(ChunkChoice(choice, text, shown), obfuscation=obfuscation)

    def finish_chunk(self, end: Finished) -> CompletionChunk:
        timings = wire_timings(end.timings, self._envelope)
        return self._chunk(ChunkChoice(end.choice, "", finish_reason=end.reason, timings=timings))

    def usage_chunk(self, usage: Usage) -> CompletionChunk:
        return self._chunk(usage=WireUsage.of(usage))

    def _chunk(
        self,
        *choices: ChunkChoice,
        usage: WireUsage | None = None,
        obfuscation: str | msgspec.UnsetType = msgspec.UNSET,
    ) -> CompletionChunk:
        envelope = self._envelope
        return CompletionChunk(
            id=envelope.id,
            created=envelope.created,
            model=envelope.model,
            system_fingerprint=envelope.fingerprint,
            choices=choices,
            usage=usage or self._no_usage,
            obfuscation=obfuscation,
        )


def encoder(body: CompletionBody, envelope: Envelope) -> CompletionEncoder:
    return CompletionEncoder(
        envelope, include_usage=body.include_usage, include_obfuscation=body.include_obfuscation
    )
