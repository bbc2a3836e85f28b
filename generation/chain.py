"""What a model writes, read in stages: reasoning is split off first, tool calls are found in the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from generation.events import Delta, TextDelta


class Stage(Protocol):
    """Reads the text of one choice. However the text is cut into pieces, it gives the same, joined by kind."""

    def add(self, delta: TextDelta) -> list[Delta]:
        """What is certain once this piece is known. Text that it does not concern itself with comes back as text.

        A piece may have no text: a token that made none yet still counts. The tokens of all that is given back
        are those of the pieces, and a delta without text is there for its tokens alone.
        """
        ...

    def end(self) -> list[Delta]:
        """What was held back, once no more text will come."""
        ...


class Chain:
    """The stages of one choice, each reading what the one before it left as text. Owned by the request's task."""

    __slots__ = ("_stages", "is_empty")

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = tuple(stages)
        self.is_empty = not stages

    def add(self, delta: TextDelta) -> list[Delta]:
        return self._through([delta], self._stages)

    def end(self) -> list[Delta]:
        """End every stage, the first one first: what it held back is still for the others to read."""
        deltas: list[Delta] = []
        for index, stage in enumerate(self._stages):
            deltas += self._through(stage.end(), self._stages[index + 1 :])
        return deltas

    @staticmethod
    def _through(deltas: list[Delta], stages: tuple[Stage, ...]) -> list[Delta]:
        for stage in stages:
            read: list[Delta] = []
            for delta in deltas:
                if isinstance(delta, TextDelta):
                    read += stage.add(delta)
                else:
                    read.append(delta)
            deltas = read
        return deltas
