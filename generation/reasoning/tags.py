"""Reasoning between two tags, before the answer: ``<think>...</think>`` and its like."""

from __future__ import annotations

from typing import Literal

from generation.events import Delta, ReasoningDelta, TextDelta
from generation.marker import split_at_marker

_State = Literal["start", "reasoning", "gap", "answer"]


class TagReader:
    """The stage for tags. Only what an answer begins with is reasoning: a tag further on is the answer's own.

    The white space around each tag is dropped. Reasoning that never closes is all there is. The tokens of the tags
    count as reasoning.
    """

    __slots__ = ("_choice", "_close", "_held", "_is_blank", "_open", "_state", "_undecided")

    def __init__(self, choice: int, opening_tag: str, closing_tag: str, *, is_inside: bool) -> None:
        """``is_inside`` says that the prompt has opened the tag already."""
        self._choice = choice
        self._open, self._close = opening_tag, closing_tag
        self._state: _State = "reasoning" if is_inside else "start"
        self._held = ""
        self._is_blank = True
        """Whether no reasoning was given yet but white space."""
        self._undecided = 0
        """Tokens read before it is known whether the answer begins with a thought."""

    def add(self, delta: TextDelta) -> list[Delta]:
        before = self._state
        text, self._held = self._held + delta.text, ""
        was_opened, reasoning, answer = self._read(text)
        tokens, self._undecided = self._undecided + delta.tokens, 0
        if self._state == "start":
            self._undecided = tokens
            return []
        if before == "reasoning" or was_opened:
            thought = ReasoningDelta(self._choice, reasoning, tokens)
            return [thought, TextDelta(self._choice, answer, 0)] if answer else [thought]
        return [TextDelta(self._choice, answer, tokens)]

    def end(self) -> list[Delta]:
        held, self._held = self._held, ""
        match self._state:
            case "start":
                return [TextDelta(self._choice, held, self._undecided)]
            case "reasoning":
                return [ReasoningDelta(self._choice, held.rstrip(), 0)]
            case "gap" | "answer":
                return []

    def _read(self, text: str) -> tuple[bool, str, str]:
        """Whether the tag was opened here, and the reasoning and the answer that ``text`` is certain to hold."""
        was_opened = False
        if self._state == "start":
            stripped = text.lstrip()
            if stripped.startswith(self._open):
                was_opened = True
                self._state, text = "reasoning", stripped[len(self._open) :]
            elif self._open.startswith(stripped):
                self._held = text
            else:
                self._state = "answer"
        reasoning = ""
        if self._state == "reasoning":
            reasoning, text = self._think(text)
        if self._state == "gap" and (text := text.lstrip()):
            self._state = "answer"
        return was_opened, reasoning, text if self._state == "answer" else ""

    def _think(self, text: str) -> tuple[str, str]:
        """The reasoning in ``text``, and what follows its end, if that is there."""
        if self._is_blank:
            text = text.lstrip()
        before, marker, rest = split_at_marker(text, (self._close,))
        reasoning = before.rstrip()
        self._is_blank = self._is_blank and not reasoning
        if marker is not None:
            self._state = "gap"
            return reasoning, rest
        # White space is the tag's if the tag comes next, and the reasoning's if not.
        self._held = before[len(reasoning) :] + rest
        return reasoning, ""
