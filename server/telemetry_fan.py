"""Tells several observers of each request what one is told."""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import NibbleError
from generation.events import Event, Finished
from routes.telemetry import RequestObservation, Telemetry


class TelemetryFan:
    """Implements ``routes.telemetry.Telemetry`` over others, told in their order."""

    def __init__(self, members: Sequence[Telemetry]) -> None:
        self._members = tuple(members)

    def request_started(self, model: str, operation: str) -> ObservationFan:
        return ObservationFan([member.request_started(model, operation) for member in self._members])

    def rejected(self, reason: str) -> None:
        for member in self._members:
            member.rejected(reason)


class ObservationFan:
    """Implements ``routes.telemetry.RequestObservation`` over others."""

    def __init__(self, members: Sequence[RequestObservation]) -> None:
        self._members = members
        self._readers = [member for member in members if member.wants_content]

    @property
    def wants_content(self) -> bool:
        return bool(self._readers)

    def asked(self, request: object) -> None:
        for member in self._members:
            member.asked(request)

    def told(self, events: Sequence[Event]) -> None:
        for member in self._readers:
            member.told(events)

    def first_text(self) -> None:
        for member in self._members:
            member.first_text()

    def finished(self, choices: Sequence[Finished]) -> None:
        for member in self._members:
            member.finished(choices)

    def failed(self, error: NibbleError) -> None:
        for member in self._members:
            member.failed(error)

    def aborted(self) -> None:
        for member in self._members:
            member.aborted()
