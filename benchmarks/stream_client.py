"""A client that costs little, so that it measures the server and not itself: HTTP/1.1 and SSE, by hand."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_GATHERED_BYTES = 48 * 1024


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """When one streamed answer was asked for and when its pieces came; seconds of one monotonic clock."""

    asked_s: float
    pieces_s: tuple[float, ...]
    tokens: int
    cached_tokens: int = 0
    prompt_tokens: int = 0
    text: str = ""

    @property
    def first_token_s(self) -> float:
        """Seconds from the question to the first piece of text."""
        return self.pieces_s[0] - self.asked_s

    @property
    def longest_gap_s(self) -> float:
        """The longest wait between two pieces."""
        return max((b - a for a, b in zip(self.pieces_s, self.pieces_s[1:], strict=False)), default=0.0)


class StreamClient:
    """Sends streamed completions to one server."""

    def __init__(self, url: str, model: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 80
        self._model = model

    async def complete(
        self, prompt: Sequence[int] | str, *, answer_tokens: int, every_piece: bool = True
    ) -> StreamTimes:
        """One greedy answer of exactly ``answer_tokens``. Raises RuntimeError if the server gives anything else.

        Without ``every_piece`` only the times of the first and the last are true: those between are read in bulk.
        """
        body = {"prompt": prompt, "max_tokens": answer_tokens, "ignore_eos": True}
        return await self.post("/v1/completions", body, every_piece=every_piece)

    async def chat(
        self, messages: list[dict[str, str]], *, answer_tokens: int, **fields: object
    ) -> StreamTimes:
        """One greedy answer of at most ``answer_tokens``; ``fields`` go into the request as they are."""
        return await self.post(
            "/v1/chat/completions", {"messages": messages, "max_tokens": answer_tokens, **fields}
        )

    async def post(self, path: str, fields: Mapping[str, object], *, every_piece: bool = True) -> StreamTimes:
        """Stream any request. Raises RuntimeError if the stream does not end well."""
        body = {
            "model": self._model,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **fields,
        }
        return await self._post(path, json.dumps(body).encode(), every_piece=every_piece)

    async def get(self, path: str) -> bytes:
        """The whole answer to a GET, head and body."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\nConnection: close\r\n\r\n".encode())
            return await reader.read()
        finally:
            writer.close()

    async def _post(self, path: str, body: bytes, *, every_piece: bool) -> StreamTimes:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(self._host, self._port)
        asked_s = time.perf_counter()
        writer.write(head.encode() + body)
        received: list[tuple[float, bytes]] = []
        try:
            # Nothing is parsed while it runs: a client that works competes with the server for the cores.
            while data := await reader.read(65536):
                received.append((time.perf_counter(), data))
                if not every_piece and b'"text":"' in data:
                    # Being woken for each piece takes as long on these cores as making it does. A client that
                    # reads on a machine of its own costs the server's nothing: here the kernel gathers.
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _GATHERED_BYTES)
        finally:
            writer.close()
        return _read_stream(asked_s, received)


def _read_stream(asked_s: float, received: list[tuple[float, bytes]]) -> StreamTimes:
    whole = b"".join(data for _, data in received)
    if b"data: [DONE]" not in whole:
        raise RuntimeError(f"the stream ended without [DONE]: {whole[-500:]!r}")
    pieces_s = tuple(at for at, data in received if b'"text":"' in data or b'"delta":{"content"' in data)
    text = ""
    usage: dict[str, Any] = {}
    for line in whole.split(b"\n"):
        if line.startswith(b"data: {"):
            chunk = json.loads(line[len(b"data: ") :])
            for choice in chunk["choices"]:
                text += choice.get("text") or choice.get("delta", {}).get("content") or ""
            usage = chunk.get("usage") or usage
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return StreamTimes(asked_s, pieces_s, usage["completion_tokens"], cached, usage["prompt_tokens"], text)
