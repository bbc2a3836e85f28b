"""Reading tool calls out of an answer while it is being written.

A parser is a generator that reads from a buffer and waits, by a bare ``yield``, where it holds too little to
decide. So each family is written as if the whole text were there, and its result cannot depend on how the text
was cut.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Generator

import msgspec

from generation.marker import split_at_marker


class Text(msgspec.Struct, frozen=True):
    """Text for the reader of the answer."""

    text: str


class CallStarted(msgspec.Struct, frozen=True):
    """A call of the function ``name``; calls are numbered from 0 in the order of their start."""

    index: int
    name: str


class CallArguments(msgspec.Struct, frozen=True):
    """The next part of the JSON text of a call's arguments."""

    index: int
    text: str


Parsed = Text | CallStarted | CallArguments
Reading = Generator[None, None, None]

_BLANKS = " \t\r\n"
_JSON_MARKS = re.compile(r'\\.?|["{}\[\]]', re.DOTALL)


class ToolParser(ABC):
    """Reads one answer. Owned by the task that answers.

    ``is_unfinished`` tells, after ``finish``, that the answer ended inside a call.
    """

    def __init__(self) -> None:
        self.is_unfinished = False
        self.calls = 0
        self._buffer = ""
        self._is_over = False
        self._parsed: list[Parsed] = []
        self._reading = self._read()

    def feed(self, text: str) -> list[Parsed]:
        """What is certain now that ``text`` has come."""
        self._buffer += text
        return self._go_on()

    def finish(self) -> list[Parsed]:
        """The rest, when no more text will come."""
        self._is_over = True
        return self._go_on()

    def _go_on(self) -> list[Parsed]:
        next(self._reading, None)
        parsed, self._parsed = self._parsed, []
        return parsed

    @abstractmethod
    def _read(self) -> Reading:
        """Read the whole answer. What is left in the buffer when it returns is markup, and is dropped."""

    # -- what families read with -----------------------------------------------------------------------------------

    def _text(self, *markers: str) -> Generator[None, None, str]:
        """Pass text on up to the first of ``markers``, which is consumed and returned; '' at the end of the answer.

        Blanks right before a marker belong to the markup, and what may yet become a marker is held back.
        """
        while True:
            before, marker, rest = split_at_marker(self._buffer, markers)
            if marker is None and self._is_over:
                before, rest = before + rest, ""
            else:
                kept = before.rstrip(_BLANKS)
                if marker is None:
                    rest = before[len(kept) :] + rest
                before = kept
            if before:
                self._parsed.append(Text(before))
            self._buffer = rest
            if marker is not None or self._is_over:
                return marker or ""
            yield

    def _blanks(self) -> Reading:
        """Skip white space."""
        while True:
            self._buffer = self._buffer.lstrip(_BLANKS)
            if self._buffer or self._is_over:
                return
            yield

    def _take(self, *literals: str) -> Generator[None, None, str]:
        """Consume the first of ``literals`` that comes next, and return it; '' and nothing consumed if none does."""
        while True:
            for literal in literals:
                if self._buffer.startswith(literal):
                    self._buffer = self._buffer[len(literal) :]
                    return literal
            if self._is_over or not any(literal.startswith(self._buffer) for literal in literals):
                return ""
            yield

    def _until(self, literal: str) -> Generator[None, None, str | None]:
        """What comes before ``literal``, both consumed; None if the answer ends before it."""
        while (at := self._buffer.find(literal)) < 0:
            if self._is_over:
                self._buffer = ""
                return None
            yield
        before = self._buffer[:at]
        self._buffer = self._buffer[at + len(literal) :]
        return before

    def _string(self, end: str) -> Generator[None, None, bool]:
        """Pass bare text on as a JSON string, up to ``end``, which is consumed; whether that came."""
        self._arguments('"')
        while True:
            text, marker, self._buffer = split_at_marker(self._buffer, (end,))
            self._arguments(json.dumps(text, ensure_ascii=False)[1:-1])
            if marker is not None:
                self._arguments('"')
                return True
            if self._is_over:
                return False
            yield

    def _start(self, name: str) -> None:
        self._parsed.append(CallStarted(self.calls, name))
        self.calls += 1

    def _arguments(self, text: str) -> None:
        if text:
            self._parsed.append(CallArguments(self.calls - 1, text))

    def _object(self) -> Generator[None, None, bool]:
        """Pass a JSON object on as arguments of the call that was started; whether it was whole."""
        depth, is_string = 0, False
        while True:
            end = len(self._buffer)
            is_whole = False
            for hit in _JSON_MARKS.finditer(self._buffer):
                mark = hit[0]
                if mark == "\\":
                    end = hit.start()  # what it escapes has not come yet
                elif mark == '"':
                    is_string = not is_string
                elif mark[0] != "\\" and not is_string:
                    depth += 1 if mark in "{[" else -1
                    if depth == 0:
                        end, is_whole = hit.end(), True
                        break
            self._arguments(self._buffer[:end])
            self._buffer = self._buffer[end:]
            if is_whole or self._is_over:
                return is_whole
            yield
