"""The stream of frames between the server and its workers: cut anywhere, and damaged."""

from __future__ import annotations

import msgspec

from engine import frames
from engine.errors import ErrorRecord
from tests.fuzz.byte_source import ByteSource, cut_bytes
from tests.fuzz.target import Target


def _split(pieces: list[bytes]) -> tuple[list[bytes], str]:
    splitter = frames.FrameSplitter()
    bodies: list[bytes] = []
    try:
        for piece in pieces:
            bodies += splitter.feed(piece)
    except ValueError as error:
        return bodies, str(error)
    return bodies, ""


def check(data: bytes) -> None:
    source = ByteSource(data)
    is_sound = bool(source.number(1))
    at = [source.number(511) for _ in range(source.number(16))]
    sent: list[bytes] = []
    if is_sound:
        while not source.is_empty:
            sent.append(source.take(source.number(64)))
        stream = b"".join(frames.HEADER.pack(len(body)) + body for body in sent)
    else:
        stream = source.rest()
    pieces = cut_bytes(stream, sorted(min(each, len(stream)) for each in at))
    bodies, problem = _split(pieces)
    whole, whole_problem = _split([stream])
    if problem or whole_problem:
        assert problem == whole_problem, "it depends on the cuts"
        assert whole == bodies[: len(whole)]
    else:
        assert bodies == whole
    if is_sound:
        assert (bodies, problem) == (sent, "")
    for body in bodies:
        for decode in (frames.decode_to_worker, frames.decode_from_worker):
            try:
                frame = decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            again = frames.encode(frame)
            assert decode(again[frames.HEADER.size :]) == frame or "nan" in repr(frame)


_FRAMES = (
    frames.encode(frames.Cancel(7)),
    frames.encode(frames.Refused(frames.Failure(3, ErrorRecord("invalid_request", "no", "prompt")))),
)
TARGET = Target(
    "frame-splitter",
    "frames come out as they went in however they are cut; what is none is refused with a typed error",
    check,
    seeds=(
        *(b"\x00\x00" + frame for frame in _FRAMES),
        b"\x00\x03\x05\x00\x07\x00\x09\x00" + b"".join(_FRAMES),
        b"\x01\x02\x04\x00\x06\x00" + b"\x05hello\x00\x03abc",
    ),
    words=(
        b"\x00\x00\x00\x01",
        b"\xff\xff\xff\xff",
        b"\x04\x00\x00\x01",
        b"\x80",
        b"\xc1",
        b"\x93",
        *_FRAMES,
    ),
)
