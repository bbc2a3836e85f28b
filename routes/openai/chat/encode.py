"""Canonical events to chat completion chunks."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.token_logprob import TokenLogprob
from generation.events import Finished, FinishReason, TextDelta, ToolCallDelta, ToolCallStarted, Usage
from routes.envelope import Envelope
from routes.openai.chat.body import ChatCompletionBody
from routes.openai.chat.logprobs import ChatLogprobs, chat_logprobs
from routes.openai.chat.tool_call import FunctionPart, ToolCallPart
from routes.openai.chunk_encoder import ChoiceEvent, ChunkEncoder
from routes.openai.timings import WireTimings, wire_timings
from routes.openai.usage import WireUsage


class Delta(msgspec.Struct, frozen=True):
    role: Literal["assistant"] | msgspec.UnsetType = msgspec.UNSET
    content: str | msgspec.UnsetType | None = msgspec.UNSET
    refusal: str | msgspec.UnsetType | None = msgspec.UNSET
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    reasoning: str | msgspec.UnsetType = msgspec.UNSET
    """The same as ``reasoning_content``: clients read one or the other."""
    tool_calls: tuple[ToolCallPart] | msgspec.UnsetType = msgspec.UNSET
    function_call: FunctionPart | msgspec.UnsetType = msgspec.UNSET
    """The older shape of a call, for requests with ``functions``."""


class ChunkChoice(msgspec.Struct, frozen=True):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
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
    def __init__(
        self,
        envelope: Envelope,
        *,
        include_usage: bool,
        include_obfuscation: bool,
        is_legacy: bool = False,
    ) -> None:
        """``is_legacy`` tells calls in the older shape, ``function_call``."""
        super().__init__(include_usage=include_usage, include_obfuscation=include_obfuscation)
        self._envelope = envelope
        self._is_legacy = is_legacy
        self._no_usage = None if include_usage else msgspec.UNSET

    def first_chunk(self, first: ChoiceEvent) -> ChatCompletionChunk:
        # As in the whole answer: null where nothing but thoughts and calls will come.
        content = "" if isinstance(first, (TextDelta, Finished)) else None
        return self._chunk(ChunkChoice(first.choice, Delta(role="assistant", content=content, refusal=None)))

    def call_chunk(
        self, event: ToolCallStarted | ToolCallDelta, obfuscation: str | msgspec.UnsetType
    ) -> ChatCompletionChunk:
        function = (
            FunctionPart(event.name, "")
            if isinstance(event, ToolCallStarted)
            else FunctionPart(arguments=event.text)
        )
        if self._is_legacy:
            delta = Delta(function_call=function)
        elif isinstance(event, ToolCallStarted):
            call_id = msgspec.UNSET if event.id is None else event.id
            part = ToolCallPart(index=event.index, id=call_id, type="function", function=function)
            delta = Delta(tool_calls=(part,))
        else:
            delta = Delta(tool_calls=(ToolCallPart(index=event.index, function=function),))
        return self._chunk(ChunkChoice(event.choice, delta), obfuscation=obfuscation)

    def text_chunk(
        self,
        choice: int,
        text: str,
        obfuscation: str | msgspec.UnsetType,
        logprobs: tuple[TokenLogprob, ...] | None = None,
    ) -> ChatCompletionChunk:
        shown = chat_logprobs(logprobs)
        return self._chunk(ChunkChoice(choice, Delta(content=text), shown), obfuscation=obfuscation)

    def reasoning_chunk(
        self, choice: int, text: str, obfuscation: str | msgspec.UnsetType
    ) -> ChatCompletionChunk:
        delta = Delta(reasoning_content=text, reasoning=text)
        return self._chunk(ChunkChoice(choice, delta), obfuscation=obfuscation)

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
        envelope,
        include_usage=body.include_usage,
        include_obfuscation=body.include_obfuscation,
        is_legacy=body.functions is not None,
    )
