"""gpt-oss's harmony format: an answer of several messages, each with a header that names its channel.

``<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...``: what is said in the
analysis channel is reasoning, what is addressed to a recipient (``to=functions.name``) is a call, the rest is text.
Source of the format: OpenAI's harmony response format.
"""

from __future__ import annotations

from typing import Literal

from generation.events import Delta, ReasoningDelta, TextDelta
from generation.marker import split_at_marker

START, CHANNEL, MESSAGE, END, CALL = "<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>"
MARKERS = (START, CHANNEL, MESSAGE, END, CALL, "<|return|>", "<|constrain|>")
_ENDS = (END, "<|return|>", CALL, START)
_ANALYSIS, _RECIPIENT = CHANNEL + "analysis", " to="
_LONGEST_HEADER = 512
"""Characters after which a header without an end is taken for text: the model does not speak harmony."""
_BETWEEN = "\n\n"
"""Put between two messages of one kind, which would run together otherwise."""

_Kind = Literal["reasoning", "text", "call"]


class HarmonyReader:
    """The stage for harmony. The headers of the reasoning count as reasoning.

    ``keeps_calls`` leaves a call as it is, from ``<|start|>`` to ``<|call|>``, for the stage that reads calls;
    otherwise its content is text.
    """

    __slots__ = (
        "_begun",
        "_choice",
        "_header",
        "_held",
        "_is_first",
        "_keeps_calls",
        "_kind",
        "_said",
        "_seams",
        "_undecided",
    )

    def __init__(self, choice: int, *, opening: str, keeps_calls: bool = False) -> None:
        """``opening`` is how the prompt ends: within the header of a message, or within its content."""
        self._choice = choice
        self._keeps_calls = keeps_calls
        start, message = opening.rfind(START), opening.rfind(MESSAGE)
        is_header = start > message
        self._kind: _Kind | None = None if is_header else _kind_of(opening[max(start, 0) : max(message, 0)])
        """What is being read; None is a header."""
        self._begun = opening[start + len(START) :] if is_header else ""
        """What the prompt holds of the first header."""
        self._header = self._held = ""
        self._is_first = is_header
        """Whether no message has begun yet."""
        self._said: set[_Kind] = set()
        self._seams: set[_Kind] = set()
        """Of what there was some text, and of what another message has begun since."""
        self._undecided = 0
        """Tokens of a header."""

    def add(self, delta: TextDelta) -> list[Delta]:
        before, tokens = self._kind, self._undecided + delta.tokens
        pieces = self._read(self._held + delta.text)
        self._undecided = 0
        if before is None and self._kind is None and not pieces:
            self._undecided = tokens
            return []
        is_reasoning = "reasoning" in (before, self._kind) or any(kind == "reasoning" for kind, _ in pieces)
        counted: Delta = (ReasoningDelta if is_reasoning else TextDelta)(self._choice, "", tokens)
        return [counted, *(self._delta(kind, text) for kind, text in pieces)]

    def end(self) -> list[Delta]:
        if self._kind is not None:
            return [self._delta(self._kind, self._spaced(self._kind, self._held))]
        header = self._header + self._held
        if self._is_first and not any(marker in header for marker in MARKERS):
            # So answers a model that does not speak harmony.
            return [TextDelta(self._choice, header, self._undecided)]
        return [TextDelta(self._choice, "", self._undecided)]

    def _delta(self, kind: _Kind, text: str) -> Delta:
        return (ReasoningDelta if kind == "reasoning" else TextDelta)(self._choice, text, 0)

    def _spaced(self, kind: _Kind, text: str) -> str:
        """``text``, apart from an earlier message of its kind."""
        if not text or kind == "call":
            return text
        self._said.add(kind)
        if kind in self._seams:
            self._seams.discard(kind)
            return _BETWEEN + text
        return text

    def _read(self, text: str) -> list[tuple[_Kind, str]]:
        """What ``text`` is certain to hold, in its order. The rest is held."""
        pieces: list[tuple[_Kind, str]] = []
        while True:
            if self._kind is None:
                before, marker, rest = split_at_marker(text, (MESSAGE,))
                self._header += before
                is_too_long = len(self._header) > _LONGEST_HEADER
                if marker is None and not is_too_long:
                    self._held = rest
                    return pieces
                self._is_first = False
                if is_too_long:
                    self._kind, text = "text", self._header + (marker or "") + rest
                else:
                    is_whole = self._header.startswith(START)
                    header = self._header.removeprefix(START) if is_whole else self._begun + self._header
                    self._kind, text = _kind_of(header), rest
                    if self._kind == "call" and self._keeps_calls:
                        pieces.append(("call", START + header + MESSAGE))
                    elif self._kind == "call":
                        self._kind = "text"
                    if self._kind in self._said:
                        self._seams.add(self._kind)
                self._begun = self._header = ""
            else:
                before, marker, rest = split_at_marker(text, _ENDS)
                if before:
                    pieces.append((self._kind, self._spaced(self._kind, before)))
                if marker is None:
                    self._held = rest
                    return pieces
                if self._kind == "call":
                    pieces.append(("call", CALL))
                self._kind, text = None, rest


def _kind_of(header: str) -> _Kind:
    if _RECIPIENT in header:
        return "call"
    return "reasoning" if _ANALYSIS in header else "text"
