"""A client over bare sockets that notes all it is told, and can leave at any point."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tests.soak.alphabet import Voice

Leave = Literal["halfway", "at once", "headers", "text", "later"]
LEAVES: tuple[Leave, ...] = ("halfway", "at once", "headers", "text", "later")


@dataclass(slots=True)
class Told:
    """What came of one request. Times are seconds of one monotonic clock."""

    began_s: float
    ended_s: float = 0.0
    status: int = 0
    text: str = ""
    reason: str | None = None
    error: str | None = None
    """The code of the error, in a whole answer or as a stream's event."""
    is_done: bool = False
    """Whether the stream said that it is over."""
    usage: dict[str, Any] | None = None
    retry_after: bool = False
    has_left: bool = False
    was_reset: bool = False

    @property
    def is_whole(self) -> bool:
        return self.status == 200 and self.error is None and self.reason is not None

    def fault(self, voice: Voice, tokens: int, *, may_fail: tuple[str, ...] = ()) -> str:
        """What is wrong with this answer; empty if nothing is. ``may_fail`` are codes of errors that may be."""
        if foreign := set(self.text) - voice.letters:
            return f"foreign text {foreign} beside {set(voice.letters)}"
        if self.has_left:
            return ""
        if self.error is not None:
            return "" if self.error in may_fail else f"error {self.error} (status {self.status})"
        if not self.is_whole:
            how = "was reset" if self.was_reset else "ended"
            told = f"status {self.status}, {len(self.text)} of {tokens} tokens"
            return f"{how} without a word after {self.ended_s - self.began_s:.1f} s: {told}"
        if len(self.text) != tokens:
            return f"{len(self.text)} tokens instead of {tokens}"
        if self.usage is not None and self.usage["completion_tokens"] != tokens:
            return f"told of {self.usage['completion_tokens']} tokens instead of {tokens}"
        return ""


class SoakClient:
    """Sends completions to one server. Owned by the event loop."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def ask(
        self,
        model: str,
        voice: Voice,
        tokens: int,
        *,
        prompt: list[int],
        seed: int = 0,
        stream: bool = True,
        leave: Leave | None = None,
        leave_after_s: float = 0.0,
        reset: bool = False,
    ) -> Told:
        """One request of ``tokens``, to its end or until the client leaves, politely or with a reset."""
        body: dict[str, object] = {
            "model": model,
            "prompt": prompt,
            "max_tokens": tokens,
            "ignore_eos": True,
            "temperature": 1,
            "seed": seed,
            "allowed_token_ids": list(voice.tokens),
            "stream": stream,
        }
        if stream:
            body["stream_options"] = {"include_usage": True}
        asked = json.dumps(body).encode()
        head = (
            f"POST /v1/completions HTTP/1.1\r\nhost: localhost:{self._port}\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(asked)}\r\n\r\n"
        ).encode()
        told = Told(time.monotonic())
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            message = head + asked
            writer.write(message[: len(message) // 2] if leave == "halfway" else message)
            await writer.drain()
            if leave in ("halfway", "at once"):
                told.has_left = True
            elif leave is not None:
                told.has_left = True
                await self._hear_a_part(reader, leave, leave_after_s)
            else:
                raw = bytearray()
                try:
                    while data := await reader.read(65536):
                        raw += data
                except ConnectionResetError:
                    told.was_reset = True
                read_answer(told, bytes(raw))
        finally:
            told.ended_s = time.monotonic()
            if reset and told.has_left:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            writer.close()
        return told

    @staticmethod
    async def _hear_a_part(reader: asyncio.StreamReader, leave: Leave, after_s: float) -> None:
        if leave == "later":
            await asyncio.sleep(after_s)
            return
        # A whole answer has no text before its end: then the end is as far as one can hear.
        mark = b"\r\n\r\n" if leave == "headers" else b'"text":'
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
            await reader.readuntil(mark)

    async def get(self, path: str) -> tuple[int, float]:
        """Status of a GET, and the seconds that it took."""
        began_s = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
            answer = await reader.read(-1)
        finally:
            writer.close()
        return int(answer.split(b" ", 2)[1]) if answer else 0, time.monotonic() - began_s


def read_answer(told: Told, raw: bytes) -> None:
    """Fill ``told`` with what an answer says, as far as it came."""
    head, is_whole, body = raw.partition(b"\r\n\r\n")
    if not is_whole:
        return
    told.status = int(head.split(b" ", 2)[1])
    told.retry_after = b"\nretry-after:" in head.lower()
    if b"text/event-stream" in head:
        if b"\ntransfer-encoding: chunked" in head.lower():
            body = _unchunked(body)
        for line in body.split(b"\n"):
            if line == b"data: [DONE]":
                told.is_done = True
            elif line.startswith(b"data: "):
                _read_object(told, line[len(b"data: ") :])
    else:
        _read_object(told, body)


def _read_object(told: Told, raw: bytes) -> None:
    try:
        found: Mapping[str, Any] = json.loads(raw)
    except ValueError:
        return  # cut off, which shows in what is missing
    if "error" in found:
        told.error = str(found["error"]["code"])
        return
    for choice in found["choices"]:
        told.text += choice["text"]
        told.reason = choice["finish_reason"] or told.reason
    told.usage = found.get("usage") or told.usage


def _unchunked(body: bytes) -> bytes:
    parts: list[bytes] = []
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size or b"0", 16)
        parts.append(body[:length])
        body = body[length + 2 :]
    return b"".join(parts)
