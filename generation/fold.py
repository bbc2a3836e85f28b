"""The fold of a stream: a whole answer is what its events add up to, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable

import msgspec

from engine.errors import InternalError
from generation.events import Event, Finished, FinishReason, Started, TextDelta, Timings, Usage


class Choice(msgspec.Struct, frozen=True):
    """One finished answer."""

    index: int
    text: str
    reason: FinishReason
    timings: Timings


class Generation(msgspec.Struct, frozen=True):
    """The whole answer to one request; choices in the order of their index."""

    choices: tuple[Choice, ...]
    usage: Usage


class Fold:
    """Gathers the events of one request. Owned by the task that answers it."""

    def __init__(self) -> None:
        self._texts: dict[int, list[str]] = {}
        self._finished: dict[int, Finished] = {}

    @property
    def usage(self) -> Usage:
        return sum((end.usage for end in self._finished.values()), Usage())

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case TextDelta(choice=choice, text=text):
                    self._texts.setdefault(choice, []).append(text)
                case Finished(choice=choice):
                    self._finished[choice] = event
                case Started():
                    pass

    def result(self) -> Generation:
        """The whole answer. Raises InternalError if a choice has text and no end, or if there is none."""
        if not self._finished or self._texts.keys() - self._finished.keys():
            raise InternalError("the stream ended before its choices did")
        choices = (
            Choice(index, "".join(self._texts.get(index, ())), end.reason, end.timings)
            for index, end in sorted(self._finished.items())
        )
        return Generation(tuple(choices), self.usage)


async def collect(steps: AsyncIterable[list[Event]]) -> Generation:
    """Run a stream to its end and return what it adds up to."""
    fold = Fold()
    async for events in steps:
        fold.add(events)
    return fold.result()
