"""Choosing the best of several answers: those that the model found likeliest, per token."""

from __future__ import annotations

import msgspec

from engine.errors import InternalError
from generation.events import Event, Finished, Started
from generation.request import GenerationRequest


class Ranking:
    """Holds back the candidates of one request until all have ended. Owned by the task that answers it.

    Nothing of a candidate can be told earlier, since it may be dropped. All count in the usage: they were generated.
    """

    def __init__(self, request: GenerationRequest) -> None:
        self._n = request.n
        self._candidates = request.candidates
        self._unfinished = request.choices
        self._held: dict[int, list[Event]] = {}
        self._ends: dict[int, Finished] = {}

    def add(self, events: list[Event]) -> list[Event]:
        """Take in a step; returns what can be told now, which is all the answers once the last has ended."""
        told: list[Event] = []
        for event in events:
            if isinstance(event, Started):
                told.append(event)
            elif isinstance(event, Finished):
                self._ends[event.choice] = event
                self._unfinished -= 1
            else:
                self._held.setdefault(event.choice, []).append(event)
        return told if self._unfinished else told + self._best()

    def _best(self) -> list[Event]:
        told: list[Event] = []
        for first in range(0, len(self._ends), self._candidates):
            ends = [self._ends[choice] for choice in range(first, first + self._candidates)]
            # A stable sort: of candidates that are equally likely, the first.
            ranked = sorted(ends, key=_mean, reverse=True)
            for rank, end in enumerate(ranked[: self._n]):
                choice = first // self._candidates * self._n + rank
                # Those that are dropped are paid for by the best of them.
                dropped = ranked[self._n :] if rank == 0 else []
                usage = sum((other.usage for other in dropped), end.usage)
                for event in (*self._held.get(end.choice, ()), msgspec.structs.replace(end, usage=usage)):
                    assert not isinstance(event, Started)
                    told.append(msgspec.structs.replace(event, choice=choice))
        return told


def _mean(end: Finished) -> float:
    if end.mean_logprob is None:
        raise InternalError("an answer to be ranked came without its log-probability")
    return end.mean_logprob
