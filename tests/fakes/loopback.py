"""The real HTTP server on a loopback port, in the test's own loop, and a client of bare bytes."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Loopback:
    """A running uvicorn. Owned by the event loop of the test."""

    def __init__(self, app: FastAPI, http: type[HttpToolsProtocol]) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", http=http)
        self._server = uvicorn.Server(config)
        self._task = asyncio.create_task(self._server.serve([self._socket]))

    def begin_stop(self) -> None:
        self._server.should_exit = True

    async def all_gone(self) -> None:
        """Return when there is no connection any more."""
        while self._server.server_state.connections:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Return when every request has ended: the server waits for them."""
        self.begin_stop()
        await asyncio.wait_for(self._task, 10)
        self._socket.close()


@asynccontextmanager
async def loopback(
    app: FastAPI, http: type[HttpToolsProtocol] = HttpToolsProtocol
) -> AsyncIterator[Loopback]:
    """``http`` is uvicorn's own protocol, which tells the app no more than ASGI says, or ours."""
    server = Loopback(app, http)
    try:
        yield server
    finally:
        await server.stop()


async def send_request(
    port: int, path: str, body: dict[str, object]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send one POST and return before its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_post(path, body))
    await writer.drain()
    return reader, writer


@contextmanager
def deaf_request(port: int, path: str, body: dict[str, object]) -> Iterator[None]:
    """Send one POST, and read nothing."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(_post(path, body))
        yield


def _post(path: str, body: dict[str, object]) -> bytes:
    raw = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: nibble\r\ncontent-type: application/json\r\n"
        f"content-length: {len(raw)}\r\n\r\n"
    )
    return head.encode() + raw
