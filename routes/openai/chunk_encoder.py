"""Encoding a stream into OpenAI's chunks. Chat and completions differ in their structs alone."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod

import msgspec

from generation.events import Event, Finished, TextDelta, Usage

DONE = b"data: [DONE]\n\n"

_PADDING = b"0" * 64
"""Text and padding together are a multiple of this long, so that the length of a chunk tells little."""
_PADDED_END = b'"}\n\n'
_json = msgspec.json.Encoder()


def frame(chunk: msgspec.Struct) -> bytes:
    """One server-sent event."""
    return b"data: " + _json.encode(chunk) + b"\n\n"


class ChunkEncoder(ABC):
    """Encodes the events of one request. Owned by the task that answers it.

    A text chunk is the same bytes every time but for its text, so the struct that describes it is encoded
    once per choice, around a mark, and cut there: per chunk only the text is encoded.
    """

    def __init__(self, *, include_usage: bool, include_obfuscation: bool) -> None:
        self._include_usage = include_usage
        self._include_obfuscation = include_obfuscation
        self._usage = Usage()
        self._around: dict[int, tuple[bytes, bytes]] = {}

    @abstractmethod
    def first_chunk(self, choice: int) -> msgspec.Struct | None:
        """What comes before a choice's first text."""

    @abstractmethod
    def text_chunk(self, choice: int, text: str, obfuscation: str | msgspec.UnsetType) -> msgspec.Struct:
        """``obfuscation``, where it is set, must be the last field."""

    @abstractmethod
    def finish_chunk(self, end: Finished) -> msgspec.Struct: ...

    @abstractmethod
    def usage_chunk(self, usage: Usage) -> msgspec.Struct: ...

    def encode(self, events: list[Event]) -> bytes:
        parts: list[bytes] = []
        for event in events:
            if isinstance(event, TextDelta):
                around = self._around.get(event.choice) or self._begin(event.choice, parts)
                text = _json.encode(event.text)
                if self._include_obfuscation:
                    padding = _PADDING[: -len(text) % len(_PADDING)]
                    parts += (around[0], text, around[1][: -len(_PADDED_END)], padding, _PADDED_END)
                else:
                    parts += (around[0], text, around[1])
            elif isinstance(event, Finished):
                if event.choice not in self._around:
                    self._begin(event.choice, parts)
                parts.append(frame(self.finish_chunk(event)))
                self._usage += event.usage
        return b"".join(parts)

    def end(self) -> bytes:
        if self._include_usage:
            return frame(self.usage_chunk(self._usage)) + DONE
        return DONE

    def _begin(self, choice: int, parts: list[bytes]) -> tuple[bytes, bytes]:
        if first := self.first_chunk(choice):
            parts.append(frame(first))
        # Random, so that no model name or other field can hold it.
        mark = secrets.token_hex(16)
        whole = frame(self.text_chunk(choice, mark, "" if self._include_obfuscation else msgspec.UNSET))
        before, after = whole.split(f'"{mark}"'.encode())
        self._around[choice] = (before, after)
        return before, after
