"""The fold of a stream: a whole answer is what its events add up to, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from engine.errors import InternalError
from engine.token_logprob import TokenLogprob
from generation.events import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    Timings,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)


class FoldedCall(msgspec.Struct, frozen=True):
    """A call of a tool; its arguments are whole JSON unless the answer was cut by its length."""

    id: str | None
    name: str
    arguments: str


class Choice(msgspec.Struct, frozen=True):
    """One finished answer."""

    index: int
    text: str
    reason: FinishReason
    timings: Timings
    logprobs: tuple[TokenLogprob, ...] | None = None
    reasoning: str = ""
    """What it thought before it answered; empty for most."""
    calls: tuple[FoldedCall, ...] = ()
    is_silent: bool = False
    """Whether nothing but thoughts and calls came: there is no text, not even an empty one."""


class Generation(msgspec.Struct, frozen=True):
    """The whole answer to one request; choices in the order of their index."""

    choices: tuple[Choice, ...]
    usage: Usage


class Fold:
    """Gathers the events of one request. Owned by the task that answers it."""

    def __init__(self) -> None:
        self._texts: dict[int, list[str]] = {}
        self._logprobs: dict[int, list[TokenLogprob]] = {}
        self._thoughts: dict[int, list[str]] = {}
        self._calls: dict[int, list[tuple[ToolCallStarted, list[str]]]] = {}
        self._finished: dict[int, Finished] = {}

    @property
    def usage(self) -> Usage:
        return sum((end.usage for end in self._finished.values()), Usage())

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case TextDelta(choice=choice, text=text, logprobs=logprobs):
                    self._texts.setdefault(choice, []).append(text)
                    if logprobs:
                        self._logprobs.setdefault(choice, []).extend(logprobs)
                case ReasoningDelta(choice=choice, text=text):
                    self._thoughts.setdefault(choice, []).append(text)
                case ToolCallStarted(choice=choice):
                    self._calls.setdefault(choice, []).append((event, []))
                case ToolCallDelta(choice=choice, index=index, text=text):
                    self._calls[choice][index][1].append(text)
                case Finished(choice=choice):
                    self._finished[choice] = event
                case Started():
                    pass

    def result(self) -> Generation:
        """The whole answer. Raises InternalError if a choice has text and no end, or if there is none."""
        begun = self._texts.keys() | self._thoughts.keys() | self._calls.keys()
        if not self._finished or begun - self._finished.keys():
            raise InternalError("the stream ended before its choices did")
        choices = (
            Choice(
                index,
                "".join(self._texts.get(index, ())),
                end.reason,
                end.timings,
                tuple(self._logprobs.get(index, ())) if end.has_logprobs else None,
                "".join(self._thoughts.get(index, ())),
                tuple(
                    FoldedCall(call.id, call.name, "".join(parts))
                    for call, parts in self._calls.get(index, ())
                ),
                is_silent=index in begun and index not in self._texts,
            )
            for index, end in sorted(self._finished.items())
        )
        return Generation(tuple(choices), self.usage)
