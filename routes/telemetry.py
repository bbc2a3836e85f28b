"""What the routes tell about each request, for figures to be made of. ``server.metrics`` implements it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from engine.errors import NibbleError
from generation.events import Event, Finished


class RequestObservation(Protocol):
    """One request. Exactly one of ``finished``, ``failed`` and ``aborted`` is called, and called last."""

    @property
    def wants_content(self) -> bool:
        """Whether ``told`` is to be called; looked at once, when the answer begins."""
        ...

    def asked(self, request: object) -> None:
        """What was understood of the body, before anything runs: what the engine or ``generation`` is asked."""
        ...

    def told(self, events: Sequence[Event]) -> None:
        """What is about to be sent, text included."""
        ...

    def first_text(self) -> None:
        """The first text of any choice is about to be sent, be it a thought or the beginning of a call."""
        ...

    def finished(self, choices: Sequence[Finished]) -> None:
        """Every choice ended; reason, usage and timings are in its event."""
        ...

    def failed(self, error: NibbleError) -> None:
        """The request ended in ``error``, before or after the headers were sent."""
        ...

    def aborted(self) -> None:
        """The client went away, or the server did."""
        ...


class Telemetry(Protocol):
    """Where observations come from. Called on the event loop, so it must not block."""

    def request_started(self, model: str, operation: str) -> RequestObservation:
        """``model`` is a registered id, or ``unknown``; ``operation`` is the dialect's, such as ``chat``."""
        ...

    def rejected(self, reason: str) -> None:
        """A request was turned away before it ran, for one of ``routes.rejections``."""
        ...


class _Unobserved:
    """What computes nothing makes no figures."""

    wants_content = False

    def asked(self, request: object) -> None: ...

    def told(self, events: Sequence[Event]) -> None: ...

    def first_text(self) -> None: ...

    def finished(self, choices: Sequence[Finished]) -> None: ...

    def failed(self, error: NibbleError) -> None: ...

    def aborted(self) -> None: ...


UNOBSERVED: RequestObservation = _Unobserved()
