"""The log: key-value pairs on stderr, coloured for a person at a terminal and JSON for everything else.

Prompts, answers and headers are never logged, but for what ``server.prompt_log`` writes where it was asked to.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from typing import Literal, TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from server.request_record import CURRENT

LogFormat = Literal["auto", "json", "pretty"]


def configure_log(log_format: LogFormat, level: str, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's messages from ``level`` upwards to ``stream`` (stderr)."""
    target = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    is_pretty = log_format == "pretty" or (log_format == "auto" and target.isatty())
    # One for all: to make it, and find its lock, takes as long as the line.
    writer = structlog.WriteLogger(cast(TextIO, LossyStream(target)))
    structlog.configure(
        processors=[_add_request_id, structlog.processors.add_log_level, *_renderers(is_pretty, target)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, StandardLibraryBridge)]:
        root.removeHandler(handler)
    root.addHandler(StandardLibraryBridge())
    root.setLevel(number)
    # It tells of its start and stop in words of its own; ours are in the banner.
    logging.getLogger("uvicorn").setLevel(max(number, logging.WARNING))
    # It tells of every request with its whole address, in which there may be secrets.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


class LossyStream:
    """Drops what cannot be written: a full disk or a closed pipe behind the log must not fail requests."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


class StandardLibraryBridge(logging.Handler):
    """Takes what libraries log in the standard way into the same stream and form. Called on any thread."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger().log(
                record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None
            )
        except Exception:
            self.handleError(record)


def _add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    record = CURRENT.get()
    if record is not None:
        event.setdefault("request_id", record.request_id)
        if record.trace_id is not None:
            event.setdefault("trace_id", record.trace_id)
    return event


def _json(event: object, **_options: object) -> str:
    """One line of ASCII, whatever the encoding of the stream. The faster encoder leaves other letters as they are, and
    refuses lone surrogates, such as names of files may have.
    """
    with contextlib.suppress(UnicodeEncodeError):
        line = msgspec.json.encode(event, enc_hook=repr).decode()
        if line.isascii():
            return line
    return json.dumps(event, default=repr, separators=(",", ":"))


def _renderers(is_pretty: bool, target: TextIO) -> list[Processor]:
    if is_pretty:
        return [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
            ),
        ]
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(_json),
    ]
