"""The stage that turns what a parser finds in an answer into events."""

from __future__ import annotations

import secrets

from engine import events as engine_events
from generation.events import Delta, FinishReason, TextDelta, ToolCallDelta, ToolCallStarted
from generation.tools.parser import CallArguments, CallStarted, Parsed, Text, ToolParser


class ToolReader:
    """Reads the tool calls of one choice. Owned by the task of the request."""

    def __init__(self, choice: int, parser: ToolParser, *, is_legacy: bool) -> None:
        self._choice = choice
        self._parser = parser
        self._is_legacy = is_legacy

    def add(self, delta: TextDelta) -> list[Delta]:
        if not (found := self._parser.feed(delta.text)):
            return [TextDelta(self._choice, "", delta.tokens)]
        # All tokens go with the first, since a parser does not tell which of them made which part.
        return [self._event(parsed, 0 if index else delta.tokens) for index, parsed in enumerate(found)]

    def end(self) -> list[Delta]:
        return [self._event(parsed, 0) for parsed in self._parser.finish()]

    @property
    def has_called(self) -> bool:
        return bool(self._parser.calls)

    def reason(self, reason: engine_events.FinishReason) -> FinishReason:
        """Why the answer ended. One that a stop string cuts off inside a call was too short for it."""
        if self._parser.is_unfinished:
            return "length"
        if reason == "stop" and self._parser.calls:
            return "function_call" if self._is_legacy else "tool_calls"
        return reason

    def _event(self, parsed: Parsed, tokens: int) -> Delta:
        match parsed:
            case Text(text=text):
                return TextDelta(self._choice, text, tokens)
            case CallStarted(index=index, name=name):
                call_id = None if self._is_legacy else f"call_{secrets.token_hex(12)}"
                return ToolCallStarted(self._choice, index, call_id, name, tokens)
            case CallArguments(index=index, text=text):
                return ToolCallDelta(self._choice, index, text, tokens)
