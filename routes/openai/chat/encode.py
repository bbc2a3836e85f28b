"""Canonical events to chat completion chunks."""

from __future__ import annotations

from typing import Literal

import msgspec

from generation.events import Finished, FinishReason, Usage
from routes.envelope import Envelope
from routes.openai.chat.body import ChatCompletionBody
from routes.openai.chunk_encoder import ChunkEncoder
from routes.openai.timings import WireTimings, wire_timings
from routes.openai.usage import WireUsage


class Delta(msgspec.Struct, frozen=True):
    role: Literal["assistant"] | msgspec.UnsetType = msgspec.UNSET
    content: str | msgspec.UnsetType = msgspec.UNSET
    refusal: str | msgspec.UnsetType | None = msgspec.UNSET


class ChunkChoice(msgspec.Struct, frozen=True):
    index: int
    delta: Delta
    logprobs: None = None
    finish_reason: FinishReason | None = None
    timings: WireTimings | msgspec.UnsetType = msgspec.UNSET


class ChatCompletionChunk(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChunkChoice, ...]
    usage: WireUsage | msgspec.UnsetType | None = msgspec.UNSET
    obfuscation: str | msgspec.UnsetType = msgspec.UNSET


class ChatEncoder(ChunkEncoder):
    def __init__(self, envelope: Envelope, *, include_usage: bool, include_obfuscation: bool) -> None:
        super().__init__(include_usage=include_usage, include_obfuscation=include_obfuscation)
        self._envelope = envelope
        self._no_usage = None if include_usage else msgspec.UNSET

    def first_chunk(self, choice: int) -> ChatCompletionChunk:
        return self._chunk(ChunkChoice(choice, Delta(role="assistant", content="", refusal=None)))

    def text_chunk(self, choice: int, text: str, obfuscation: str | msgspec.UnsetType) -> ChatCompletionChunk:
        return self._chunk(ChunkChoice(choice, Delta(content=text)), obfuscation=obfuscation)

    def finish_chunk(self, end: Finished) -> ChatCompletionChunk:
        timings = wire_timings(end.timings, self._envelope)
        return self._chunk(ChunkChoice(end.choice, Delta(), finish_reason=end.reason, timings=timings))

    def usage_chunk(self, usage: Usage) -> ChatCompletionChunk:
        return self._chunk(usage=WireUsage.of(usage))

    def _chunk(
        self,
        *choices: ChunkChoice,
        usage: WireUsage | None = None,
        obfuscation: str | msgspec.UnsetType = msgspec.UNSET,
    ) -> ChatCompletionChunk:
        envelope = self._envelope
        return ChatCompletionChunk(
            id=envelope.id,
            created=envelope.created,
            model=envelope.model,
            system_fingerprint=envelope.fingerprint,
            choices=choices,
            usage=usage or self._no_usage,
            obfuscation=obfuscation,
        )


def encoder(body: ChatCompletionBody, envelope: Envelope) -> ChatEncoder:
    return ChatEncoder(
        envelope, include_usage=body.include_usage, include_obfuscation=body.include_obfuscation
    )
