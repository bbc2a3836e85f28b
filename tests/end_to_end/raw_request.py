"""Requests as bare bytes, so that a client can go away at any point of one."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.end_to_end.live_server import MODEL
from tests.end_to_end.patience import PATIENCE_S


class RawRequest:
    """One connection with one POST on it. Owned by the test's thread."""

    def __init__(self, port: int, path: str, body: Mapping[str, object]) -> None:
        raw = json.dumps({"model": MODEL, "temperature": 0, **body}).encode()
        self.message = (
            f"POST {path} HTTP/1.1\r\nhost: localhost:{port}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(raw)}\r\n\r\n"
        ).encode() + raw
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.received = b""

    def send(self, count: int | None = None) -> None:
        """Send the whole message, or its first ``count`` bytes."""
        self._socket.sendall(self.message[:count])

    def read_until(self, mark: bytes) -> bytes:
        """Receive until ``mark`` has come; all that was received. Fails when the server closes before."""
        while mark not in self.received:
            part = self._socket.recv(65536)
            assert part, f"closed before {mark!r}: {self.received[-500:]!r}"
            self.received += part
        return self.received

    def read_to_end(self) -> bytes:
        """Receive until the server closes."""
        while part := self._socket.recv(65536):
            self.received += part
        return self.received

    def leave(self, *, reset: bool = False) -> None:
        """Close the connection, politely or by a reset. Harmless when repeated."""
        if reset and self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


@contextmanager
def raw_request(port: int, path: str, body: Mapping[str, object]) -> Iterator[RawRequest]:
    request = RawRequest(port, path, body)
    try:
        yield request
    finally:
        request.leave()
