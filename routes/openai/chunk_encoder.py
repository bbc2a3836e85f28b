"""Encoding a stream into OpenAI's chunks. Chat and completions differ in their structs alone."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod

import msgspec

from engine.token_logprob import TokenLogprob
from generation.events import (
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    TextualDelta,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)

DONE = b"data: [DONE]\n\n"

ChoiceEvent = TextualDelta | ToolCallStarted | ToolCallDelta | Finished

_PADDING = b"0" * 64
"""Text and padding together are a multiple of this long, so that the length of a chunk tells little."""
_PADDED_END = b'"}\n\n'
_MARK = secrets.token_hex(16)
"""Stands for a text. Random, so that no model name or other field can hold it."""
_QUOTED_MARK = f'"{_MARK}"'.encode()
_json = msgspec.json.Encoder()


def frame(chunk: msgspec.Struct) -> bytes:
    """One server-sent event."""
    return b"data: " + _json.encode(chunk) + b"\n\n"


class ChunkEncoder(ABC):
    """Encodes the events of one request. Owned by the task that answers it.

    A text chunk is the same bytes every time but for its text, so the struct that describes it is encoded
    once per choice and kind of text, with a mark for the text, and cut there: per chunk only the text is encoded.
    With log-probabilities there is more that differs, and each chunk is encoded in whole.
    """

    def __init__(self, *, include_usage: bool, include_obfuscation: bool) -> None:
        self._include_usage = include_usage
        self._include_obfuscation = include_obfuscation
        self._usage = Usage()
        self._forms: dict[tuple[int, type[TextualDelta]], list[bytes]] = {}
        """What stands around the text, by choice and kind; empty where nothing is to be sent."""
        self._begun: set[int] = set()

    @abstractmethod
    def first_chunk(self, first: ChoiceEvent) -> msgspec.Struct | None:
        """What comes before the first of a choice, which is ``first``."""

    @abstractmethod
    def text_chunk(
        self,
        choice: int,
        text: str,
        obfuscation: str | msgspec.UnsetType,
        logprobs: tuple[TokenLogprob, ...] | None = None,
    ) -> msgspec.Struct:
        """``obfuscation``, where it is set, must be the last field."""

    def reasoning_chunk(
        self, choice: int, text: str, obfuscation: str | msgspec.UnsetType
    ) -> msgspec.Struct | None:
        """As ``text_chunk``, for reasoning; None in a wire format that has no place for it."""
        return None

    def call_chunk(
        self, event: ToolCallStarted | ToolCallDelta, obfuscation: str | msgspec.UnsetType
    ) -> msgspec.Struct | None:
        """A part of a tool call; None in a wire format that has no place for it."""
        return None

    @abstractmethod
    def finish_chunk(self, end: Finished) -> msgspec.Struct: ...

    @abstractmethod
    def usage_chunk(self, usage: Usage) -> msgspec.Struct: ...

    def encode(self, events: list[Event]) -> bytes:
        parts: list[bytes] = []
        for event in events:
            if isinstance(event, (TextDelta, ReasoningDelta)):
                form = self._forms.get((event.choice, type(event)))
                if form is None:
                    form = self._begin(event, parts)
                if isinstance(event, TextDelta) and event.logprobs is not None:
                    parts.append(self._scored_chunk(event))
                elif form:
                    parts.append(self._fill(form, _json.encode(event.text)))
            elif isinstance(event, (ToolCallStarted, ToolCallDelta)):
                self._open(event, parts)
                parts.append(self._call_chunk(event))
            elif isinstance(event, Finished):
                self._open(event, parts)
                parts.append(frame(self.finish_chunk(event)))
                self._usage += event.usage
        return b"".join(parts)

    def end(self) -> bytes:
        if self._include_usage:
            return frame(self.usage_chunk(self._usage)) + DONE
        return DONE

    def _scored_chunk(self, event: TextDelta) -> bytes:
        # Padded all the same, although the length of log-probabilities tells the number of tokens.
        padding = "0" * (-len(event.text.encode()) % len(_PADDING))
        obfuscation = padding if self._include_obfuscation else msgspec.UNSET
        return frame(self.text_chunk(event.choice, event.text, obfuscation, event.logprobs))

    def _call_chunk(self, event: ToolCallStarted | ToolCallDelta) -> bytes:
        text = event.text if isinstance(event, ToolCallDelta) else event.name
        padding = "0" * (-len(text.encode()) % len(_PADDING))
        chunk = self.call_chunk(event, padding if self._include_obfuscation else msgspec.UNSET)
        return frame(chunk) if chunk else b""

    def _fill(self, form: list[bytes], text: bytes) -> bytes:
        filled = text.join(form)
        if not self._include_obfuscation:
            return filled
        padding = _PADDING[: -len(text) * (len(form) - 1) % len(_PADDING)]
        return filled[: -len(_PADDED_END)] + padding + _PADDED_END

    def _begin(self, event: TextualDelta, parts: list[bytes]) -> list[bytes]:
        self._open(event, parts)
        choice, kind = event.choice, type(event)
        make = self.text_chunk if kind is TextDelta else self.reasoning_chunk
        chunk = make(choice, _MARK, "" if self._include_obfuscation else msgspec.UNSET)
        form = self._forms[choice, kind] = frame(chunk).split(_QUOTED_MARK) if chunk else []
        return form

    def _open(self, event: ChoiceEvent, parts: list[bytes]) -> None:
        if event.choice in self._begun:
            return
        self._begun.add(event.choice)
        if first := self.first_chunk(event):
            parts.append(frame(first))
