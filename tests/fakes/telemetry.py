"""Telemetry that remembers what it was told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.errors import NibbleError
from generation.events import Event, Finished


@dataclass
class FakeObservation:
    model: str
    operation: str
    texts: int = 0
    ends: list[str] = field(default_factory=list)
    choices: tuple[Finished, ...] = ()
    request: object = None
    wants_content: bool = False
    events: list[Event] = field(default_factory=list)

    def asked(self, request: object) -> None:
        self.request = request

    def told(self, events: Sequence[Event]) -> None:
        self.events += events

    def first_text(self) -> None:
        assert not self.ends
        self.texts += 1

    def finished(self, choices: Sequence[Finished]) -> None:
        self.choices = tuple(choices)
        self.ends.append("finished")

    def failed(self, error: NibbleError) -> None:
        self.ends.append(error.kind)

    def aborted(self) -> None:
        self.ends.append("aborted")


class FakeTelemetry:
    def __init__(self) -> None:
        self.observations: list[FakeObservation] = []
        self.rejections: list[str] = []

    @property
    def last(self) -> FakeObservation:
        return self.observations[-1]

    def request_started(self, model: str, operation: str) -> FakeObservation:
        self.observations.append(FakeObservation(model, operation))
        return self.last

    def rejected(self, reason: str) -> None:
        self.rejections.append(reason)
