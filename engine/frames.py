"""The messages between the API process and a worker. Typed, length-prefixed, size-capped; never pickled.

A frame is four bytes of length (big-endian) and that many bytes of MessagePack. To the worker go ``Configure``
(once, first), then ``Submit``, ``Embed``, ``Ask``, ``LoadAdapter``, ``DropAdapter`` and ``Cancel``; closing the
socket ends it. From the worker come
``Ready`` or ``LoadFailed``, then ``Admitted`` or ``Refused`` for each ``Submit`` and ``Embed``, and one ``StepReport``
or ``EmbeddingReport`` per engine step. Before a step that is the first for some requests, ``Begun`` names them, so that
it is known of each, should the worker die, whether it had begun. An ``Ask`` is answered at once, with ``Answered`` or
``Refused``; a ``LoadAdapter`` or ``DropAdapter`` between two steps, with ``Adapted`` or ``Refused``.
"""

from __future__ import annotations

import struct

import msgspec

from engine.adapter import Adapter
from engine.config import EngineConfig, EngineStats, ModelFacts
from engine.embedding import EmbeddingRequest, Vectors
from engine.errors import ErrorRecord
from engine.events import Accepted, Piece
from engine.question import Answer, Question
from engine.request import EngineRequest

MAX_FRAME_BYTES = 64 * 1024 * 1024
HEADER = struct.Struct(">I")


class Configure(msgspec.Struct, frozen=True, tag="configure"):
    config: EngineConfig


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    request: int
    """Number of the request, never used twice in the life of a worker."""
    body: EngineRequest


class Embed(msgspec.Struct, frozen=True, tag="embed"):
    request: int
    body: EmbeddingRequest


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """Something that the worker knows without computing."""

    request: int
    question: Question


class LoadAdapter(msgspec.Struct, frozen=True, tag="load_adapter"):
    """Let requests name one more adapter, or another of that name."""

    request: int
    adapter: Adapter


class DropAdapter(msgspec.Struct, frozen=True, tag="drop_adapter"):
    """Let no more requests name it; its memory is given back when the last of those that do has ended."""

    request: int
    name: str


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    request: int


ToWorker = Configure | Submit | Embed | Ask | LoadAdapter | DropAdapter | Cancel


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


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """The next step is the first for these requests, or for some choice of theirs."""

    requests: list[int]


class StepReport(msgspec.Struct, frozen=True, tag="step"):
    """All that one engine step brought, for every request in it."""

    pieces: list[Piece]
    failures: list[Failure]
    stats: EngineStats


class EmbeddingReport(msgspec.Struct, frozen=True, tag="vectors"):
    """All that one engine step of a model that makes vectors brought."""

    parts: list[Vectors]
    failures: list[Failure]
    stats: EngineStats


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    request: int
    answer: Answer


class Adapted(msgspec.Struct, frozen=True, tag="adapted"):
    """An adapter is there, or gone, for every request that comes from now on."""

    request: int


Reply = Admitted | Refused | Begun | StepReport | EmbeddingReport | Answered | Adapted
"""What a worker says once it is ready."""

FromWorker = Ready | LoadFailed | Reply

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
