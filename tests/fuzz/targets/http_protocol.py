"""Bytes on a connection: requests are handed on, everything else is refused, and nothing is left hanging."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from server.http_protocol import HttpProtocol, protocol_with
from server.receipt_limits import ReceiptLimits
from tests.fuzz.byte_source import ByteSource, cut_bytes
from tests.fuzz.target import Target

_MOST_HEADER_BYTES = 512
_LIMITS = ReceiptLimits(header_timeout_s=3600, max_header_bytes=_MOST_HEADER_BYTES, body_timeout_s=3600)


class _Wire(asyncio.Transport):
    """Keeps what is written before it is closed, as a socket does."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closed:
            self.written += bytes(data)

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class House:
    """One event loop and one application, which reads the body and answers with what it was asked."""

    def __init__(self) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._loop = asyncio.new_event_loop()
        self._seen: list[Scope] = []
        self._failed: list[BaseException] = []
        self._protocol = protocol_with(_LIMITS)
        self._config = uvicorn.Config(
            self._application,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            ws="none",
            interface="asgi3",
            proxy_headers=False,
        )
        self._config.load()
        self._loop.set_exception_handler(self._on_failure)

    def _on_failure(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._failed.append(context.get("exception") or RuntimeError(context["message"]))

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._seen.append(scope)
            while True:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    break
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})
        except Exception as error:
            self._failed.append(error)
            raise

    def meet(self, pieces: list[bytes]) -> tuple[bytes, bool, list[Scope]]:
        """What is written to a connection that brings ``pieces``, whether it was closed, and the requests in them."""
        self._seen, self._failed = [], []
        told = self._loop.run_until_complete(self._talk(pieces))
        if self._failed:
            raise self._failed[0]
        return (*told, self._seen)

    async def _talk(self, pieces: list[bytes]) -> tuple[bytes, bool]:
        state = ServerState()
        made: HttpProtocol = self._protocol(self._config, state, {}, _loop=self._loop)
        wire = _Wire()
        made.connection_made(wire)
        for piece in pieces:
            if wire.is_closed:
                break
            made.data_received(piece)
            await self._settle(state)
        was_closed = wire.is_closed
        made.connection_lost(None)
        await self._settle(state)
        assert not state.tasks, "a task is left behind"
        assert not state.connections, "the connection is still counted"
        assert made._timer is None, "a timer is left behind"
        return wire.written, was_closed

    @staticmethod
    async def _settle(state: ServerState) -> None:
        """Let the application go on until it waits for more, or has answered."""
        for _ in range(12):
            if not state.tasks:
                return
            await asyncio.sleep(0)


@functools.cache
def house() -> House:
    return House()


def check(data: bytes) -> None:
    source = ByteSource(data)
    at = [source.number(511) for _ in range(source.number(8))]
    sent = source.rest()
    pieces = cut_bytes(sent, sorted(min(each, len(sent)) for each in at))
    written, _, seen = house().meet([piece for piece in pieces if piece])
    for scope in seen:
        size = len(scope["raw_path"]) + sum(len(name) + len(value) for name, value in scope["headers"])
        assert size <= _MOST_HEADER_BYTES, "the limit of headers was passed over"
        assert all(b"\n" not in value and b"\r" not in value for _, value in scope["headers"]), "smuggled"
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        assert len(lengths) <= 1, "two lengths, of which two readers may believe one each"
        codings = [value for name, value in scope["headers"] if name == b"transfer-encoding"]
        assert not (lengths and codings), "a length and chunks"
    _check_answers(written, seen)


def _check_answers(written: bytes, seen: list[Scope]) -> None:
    """Answers stand one behind the other, each whole; the last may be a refusal."""
    while written:
        head, found, written = written.partition(b"\r\n\r\n")
        assert found, "half an answer"
        first, *lines = head.split(b"\r\n")
        assert first[:9] == b"HTTP/1.1 ", "something between two answers"
        if first[9:12] == b"100":
            continue
        fields = dict(line.split(b": ", 1) for line in lines)
        length = int(fields[b"content-length"])
        if not _is_bodiless(seen):
            assert len(written) >= length, "half an answer"
            written = written[length:]
        elif not written.startswith(b"HTTP/1.1 "):
            written = written[length:]


def _is_bodiless(seen: list[Scope]) -> bool:
    """Whether a HEAD is among the requests, whose answer has a length and no body."""
    return any(scope["method"] == "HEAD" for scope in seen)


_HEAD = b"host: localhost\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n"
TARGET = Target(
    "http-protocol",
    "bytes are whole requests within the limits, or refused; no task, timer or connection is left behind",
    check,
    seeds=(
        b"\x00GET /health HTTP/1.1\r\n" + _HEAD + b"\r\n",
        b"\x03\x05\x00\x10\x00\x30\x00POST /v1/x?a=%20b HTTP/1.1\r\n"
        + _HEAD
        + b"content-length: 5\r\n\r\nhello",
        b"\x01\x40\x00POST /v1 HTTP/1.1\r\n" + _HEAD + _CHUNKED,
        b"\x00" + (b"GET / HTTP/1.1\r\n" + _HEAD + b"\r\n") * 3,
        b"\x00GET / HTTP/1.1\r\n" + _HEAD + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"\x00POST / HTTP/1.1\r\n" + _HEAD + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\nok",
        b"\x00CONNECT a:1 HTTP/1.1\r\n" + _HEAD + b"\r\n",
        b"\x00GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    ),
    words=(
        *(
            b"\r\n",
            b"\r\n\r\n",
            b"\n",
            b"\r",
            b"\0",
            b": ",
            b"content-length: ",
            b"transfer-encoding: chunked\r\n",
        ),
        *(
            b"HTTP/1.1",
            b"HTTP/0.9",
            b"HEAD /",
            b"GET http://a/b HTTP/1.1",
            b"\xff",
            b"%00",
            b"ffffffffffffffff",
        ),
        *(b"PRI * HTTP/2.0", b"x: " + b"a" * 600, b"upgrade: h2c\r\n", b" ", b"\t"),
    ),
)
