"""The messages between the API process and a worker. Typed, length-prefixed, size-capped; never pickled.

A frame is four bytes of length (big-endian) and that many bytes of MessagePack. To the worker go ``Configure``
(once, first), then ``Submit`` and ``Cancel``; closing the socket ends it. From the worker come ``Ready`` or
``LoadFailed``, then ``Admitted`` or ``Refused`` for each ``Submit``, and one ``StepReport`` per engine step.
"""

from __future__ import annotations

import struct

import msgspec

from engine.config import EngineConfig, EngineStats, ModelFacts
from engine.errors import ErrorRecord
from engine.events import Accepted, Piece
from engine.request import EngineRequest

MAX_FRAME_BYTES = 64 * 1024 * 1024
HEADER = struct.Struct(">I")


class Configure(msgspec.Struct, frozen=True, tag="configure"):
    config: EngineConfig


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    request: int
    """Number of the request, never used twice in the life of a worker."""
    body: EngineRequest


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    request: int


ToWorker = Configure | Submit | Cancel


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model has decoded a token."""

    facts: ModelFacts


class LoadFailed(msgspec.Struct, frozen=True, tag="load_failed"):
    error: ErrorRecord


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """The end of a request that will not be answered."""

    request: int
    error: ErrorRecord


class Admitted(msgspec.Struct, frozen=True, tag="admitted"):
    accepted: Accepted


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    failure: Failure


class StepReport(msgspec.Struct, frozen=True, tag="step"):
    """All that one engine step brought, for every request in it."""

    pieces: list[Piece]
    failures: list[Failure]
    stats: EngineStats


FromWorker = Ready | LoadFailed | Admitted | Refused | StepReport

_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_from_worker = msgspec.msgpack.Decoder(FromWorker)


def encode(frame: ToWorker | FromWorker) -> bytes:
    """A frame with its length in front. Raises ValueError past MAX_FRAME_BYTES."""
    body = _encoder.encode(frame)
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {len(body)} bytes is past the limit of {MAX_FRAME_BYTES}")
    return HEADER.pack(len(body)) + body


def decode_to_worker(body: bytes | memoryview) -> ToWorker:
    frame: ToWorker = _to_worker.decode(body)
    return frame


def decode_from_worker(body: bytes | memoryview) -> FromWorker:
    frame: FromWorker = _from_worker.decode(body)
    return frame


class FrameSplitter:
    """Cuts a byte stream into the bodies of frames. Owned by whoever reads the socket."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Add ``data``; return the bodies that are whole now. Raises ValueError for an impossible length."""
        self._buffer += data
        bodies: list[bytes] = []
        at = 0
        while len(self._buffer) - at >= HEADER.size:
            (length,) = HEADER.unpack_from(self._buffer, at)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes is past the limit of {MAX_FRAME_BYTES}")
            end = at + HEADER.size + length
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[at + HEADER.size : end]))
            at = end
        del self._buffer[:at]
        return bodies
