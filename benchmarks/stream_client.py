"""A client that costs little, so that it measures the server and not itself: HTTP/1.1 and SSE, by hand."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """When one streamed answer was asked for and when its pieces came; seconds of one monotonic clock."""

    asked_s: float
    pieces_s: tuple[float, ...]
    tokens: int

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

    async def complete(self, prompt: list[int] | str, *, answer_tokens: int) -> StreamTimes:
        """One greedy answer of exactly ``answer_tokens``. Raises RuntimeError if the server gives anything else."""
        body = {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": answer_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return await self._post("/v1/completions", json.dumps(body).encode())

    async def _post(self, path: str, body: bytes) -> StreamTimes:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(self._host, self._port)
        asked_s = time.perf_counter()
        writer.write(head.encode() + body)
        pieces: list[float] = []
        tail = b""
        try:
            while data := await reader.read(65536):
                # Every piece of text is a chunk with a choice; the one with the usage has none.
                if b'"text":"' in data:
                    pieces.append(time.perf_counter())
                tail = (tail + data)[-2000:]
        finally:
            writer.close()
        if b"data: [DONE]" not in tail:
            raise RuntimeError(f"the stream ended without [DONE]: {tail[-500:]!r}")
        usage = tail[tail.index(b'"completion_tokens":') + len(b'"completion_tokens":') :]
        return StreamTimes(asked_s, tuple(pieces), int(usage[: usage.index(b",")]))
