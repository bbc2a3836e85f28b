"""uvicorn's HTTP protocol, with what it lacks: limits on how long a request may take to arrive, and on its headers, and
on how long its answer may stay unread.

Without them a client that sends a byte a minute holds a connection for ever, and one endless header line all
memory: httptools collects a line until its end, and uvicorn has no clock before the headers are whole. And a
connection that is closed with something unsent is not gone before its client has read that.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

import msgspec
from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from routes.connection import CONNECTION, Connection
from server.receipt_limits import ReceiptLimits

_STATUS: Final = {
    400: b"400 Bad Request",
    408: b"408 Request Timeout",
    431: b"431 Request Header Fields Too Large",
}
_USER_TIMEOUT: Final[int | None] = getattr(socket, "TCP_USER_TIMEOUT", None)
"""Linux has it."""
_MOST_MILLISECONDS: Final = 2**31 - 1
_GRACE_S: Final = 5.0
"""Beyond the time for a body, so that the route that reads it can say so first, in its own words."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    status: int
    code: str
    message: str


_MALFORMED: Final = _Refusal(400, "invalid_http", "This is not an HTTP/1.1 request that can be read.")


class HttpProtocol(HttpToolsProtocol):
    """One connection. Owned by the event loop. One timer at a time: for headers, or for the rest of the request."""

    limits = ReceiptLimits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._gone = self.loop.create_future()
        self._in_headers = True
        self._refusal = _MALFORMED
        self._unaccounted_bytes = 0
        self._header_bytes = 0
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._gone.set_result(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # What is read at once may hold the ends of headers and body, whose callbacks set it to 0; what brings
        # neither is one line that goes on and on.
        self._unaccounted_bytes += len(data)
        if self._timer is None and not self._is_answering():
            # Also empty lines between two requests, which begin nothing, end uvicorn's wait for the next one.
            self._expect_headers()
        super().data_received(data)
        if self._unaccounted_bytes > self.limits.max_header_bytes and not self.transport.is_closing():
            self._refuse(self._too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers = True
        self._header_bytes = 0
        self._expect_headers()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are read by nobody. As headers they would be past every limit, and past what a proxy has checked.
        if self._in_headers:
            self._header_bytes += len(name) + len(value) + 4
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.url) + self._header_bytes > self.limits.max_header_bytes:
            self._refusal = self._too_large()
            raise ValueError("headers are too large")
        self._in_headers = False
        self._unaccounted_bytes = 0
        self._start_timer(self.limits.body_timeout_s + _GRACE_S)
        super().on_headers_complete()
        # The task that answers has not begun yet.
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.scope is self.scope:
            connection = Connection(
                send=cast(Send, cycle.send),
                write=partial(self._write_part, cycle),
                gone=self._gone,
                drop=self.transport.abort,
            )
            self.scope["extensions"] = {CONNECTION: cast(dict[object, object], connection)}

    def _write_part(self, cycle: RequestResponseCycle, blob: bytes) -> bool:
        """What ``cycle.send`` does with a part of a body that goes out in chunks, where it need not wait."""
        if (
            self.flow.write_paused
            or cycle.disconnected
            or cycle.response_complete
            or not cycle.chunked_encoding
        ):
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(blob), blob))
        return True

    def on_body(self, body: bytes) -> None:
        self._unaccounted_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unaccounted_bytes = 0
        self._in_headers = True
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size() and _USER_TIMEOUT is not None:
            # To close it waits until all is read. The kernel knows best whether anything still is.
            raw = self.transport.get_extra_info("socket")
            milliseconds = min(max(1, round(self.limits.send_timeout_s * 1000)), _MOST_MILLISECONDS)
            with contextlib.suppress(OSError):  # it is lost already
                raw.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, milliseconds)

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls when its parser, or one of the callbacks above, raises."""
        self._refuse(self._refusal)

    def _expect_headers(self) -> None:
        self._start_timer(self.limits.header_timeout_s)

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._out_of_time)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _out_of_time(self) -> None:
        self._timer = None
        if self._is_answering() and self._in_headers:
            # The next request of a client whose answer is still under way: that answer is not cut for it.
            self._expect_headers()
            return
        if self._in_headers and self._unaccounted_bytes:
            limit_s = self.limits.header_timeout_s
            self._refuse(
                _Refusal(408, "header_timeout", f"The headers did not arrive within {limit_s:g} seconds.")
            )
            return
        # Nothing was asked, or an answer was given that an unfinished request can only confuse.
        self.transport.close()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _too_large(self) -> _Refusal:
        limit = self.limits.max_header_bytes
        message = f"The headers are larger than the {limit} bytes that this server accepts."
        return _Refusal(431, "headers_too_large", message)

    def _refuse(self, refusal: _Refusal) -> None:
        """Answer, unless an answer is under way, and close."""
        self._stop_timer()
        if not self._is_answering():
            detail = {
                "message": refusal.message,
                "type": "invalid_request_error",
                "param": None,
                "code": refusal.code,
            }
            body = msgspec.json.encode({"error": detail})
            head = (
                b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
                % (_STATUS[refusal.status], len(body))
            )
            self.transport.write(head + body)
        self.transport.close()


def protocol_with(limits: ReceiptLimits) -> type[HttpProtocol]:
    """The class that uvicorn is to make one of for each connection."""
    members: dict[str, Any] = {"limits": limits}
    return type("LimitedHttpProtocol", (HttpProtocol,), members)
