"""Prompts and answers in the log, where the operator has asked for them (``log_prompts``)."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from engine.errors import NibbleError
from generation.events import Event, Finished
from server.request_record import CURRENT
from server.transcript import Message, Transcript, input_messages


class PromptLog:
    """Implements ``routes.telemetry.Telemetry``: a line for each request, beside the one that everybody gets."""

    def __init__(self) -> None:
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
        self._log.warning(
            "prompts and answers are logged, since log_prompts is set: the log is as secret as they are"
        )

    def request_started(self, model: str, operation: str) -> LoggedRequest:
        record = CURRENT.get()
        return LoggedRequest(self._log.bind(request_id=record.request_id) if record else self._log)

    def rejected(self, reason: str) -> None:
        """There is nothing to read."""


class LoggedRequest:
    """Implements ``routes.telemetry.RequestObservation``."""

    wants_content = True

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self._log = log
        self._asked: list[Message] = []
        self._transcript = Transcript()

    def asked(self, request: object) -> None:
        self._asked = input_messages(request)

    def told(self, events: Sequence[Event]) -> None:
        self._transcript.add(events)

    def first_text(self) -> None: ...

    def finished(self, choices: Sequence[Finished]) -> None:
        self._write()

    def failed(self, error: NibbleError) -> None:
        self._write()

    def aborted(self) -> None:
        self._write()

    def _write(self) -> None:
        """Also of what broke off: that is what somebody who reads it may be looking for."""
        if self._asked:
            self._log.info("content", input=self._asked, output=self._transcript.output_messages())
