"""The format of one saved prefix on disk: a header, its digest, the state of a slot, the digest of both.

    magic "NIBBLEPX", version (u32), bytes of the header (u32), header (MessagePack),
    SHA-256 of all that so far, state, SHA-256 of header's digest and state

All numbers are little-endian. The header has a digest of its own so that an index of many files can be made from
their first few kilobytes. The digests find damage; they do not keep out somebody who may write to the directory.
SHA-256 because processors compute it: 1.6 GiB a second here, against 0.85 of BLAKE2b.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import BinaryIO

import msgspec
import numpy as np

from engine.backend import SlotState, Tokens

_MAGIC = b"NIBBLEPX"
_VERSION = 1
_START = struct.Struct("<8sII")
_DIGEST_BYTES = 32
_MOST_HEADER_BYTES = 64 << 20
_PIECE_BYTES = 8 << 20


class DamagedPrefix(Exception):
    """The file is not what was written, or was written by another version."""


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What a file holds. ``scope`` is hashed: it may name a person."""

    key: str
    """Of the model and settings that computed the state; see ``engine.disk.model_key``."""
    scope: str
    tokens: bytes
    """Little-endian, four bytes each."""
    state_bytes: int

    @property
    def address(self) -> str:
        """A name for what this is the state of. The same prefix has the same name, so saving it anew replaces it."""
        digest = hashlib.sha256()
        for part in (self.key.encode(), self.scope.encode(), self.tokens):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.hexdigest()[:40]

    def read_tokens(self) -> Tokens:
        return np.frombuffer(self.tokens, dtype="<i4").astype(np.int32)


def hash_scope(scope: str) -> str:
    """A name for ``scope`` that does not tell what it is."""
    return hashlib.sha256(b"scope\0" + scope.encode()).hexdigest()[:32]


def make_header(key: str, scope: str, tokens: Tokens, state: SlotState) -> Header:
    return Header(key, hash_scope(scope), tokens.astype("<i4").tobytes(), state.nbytes)


def pieces(header: Header, state: SlotState) -> Iterator[memoryview]:
    """The file, in pieces to be written one after the other."""
    body = msgspec.msgpack.encode(header)
    start = _START.pack(_MAGIC, _VERSION, len(body)) + body
    digest = hashlib.sha256(start).digest()
    yield memoryview(start + digest)
    whole = hashlib.sha256(digest)
    view = state.data
    for at in range(0, len(view), _PIECE_BYTES):
        piece = view[at : at + _PIECE_BYTES]
        whole.update(piece)
        yield piece
    yield memoryview(whole.digest())


def file_bytes(header: Header) -> int:
    """Size of the file for ``header``."""
    return _START.size + len(msgspec.msgpack.encode(header)) + 2 * _DIGEST_BYTES + header.state_bytes


def read_header(file: BinaryIO, size_bytes: int) -> Header:
    """The header at the start of ``file``, which has ``size_bytes``. Raises DamagedPrefix and OSError."""
    return _read_header(file, size_bytes)[0]


def read_state(file: BinaryIO, size_bytes: int, expected: Header) -> SlotState:
    """The state in ``file``, proven to be what was written for ``expected``. Raises DamagedPrefix and OSError."""
    header, digest = _read_header(file, size_bytes)
    if header != expected:
        raise DamagedPrefix("it is the file of another prefix")
    state = np.empty(header.state_bytes, dtype=np.uint8)
    view = state.data
    whole = hashlib.sha256(digest)
    for at in range(0, len(view), _PIECE_BYTES):
        piece = view[at : at + _PIECE_BYTES]
        _fill(file, piece)
        whole.update(piece)
    if _read(file, _DIGEST_BYTES) != whole.digest():
        raise DamagedPrefix("the digest of its state is wrong")
    return state


def _read_header(file: BinaryIO, size_bytes: int) -> tuple[Header, bytes]:
    start = _read(file, _START.size)
    magic, version, length = _START.unpack(start)
    if magic != _MAGIC:
        raise DamagedPrefix("it does not begin as a saved prefix does")
    if version != _VERSION:
        raise DamagedPrefix(f"it has format {version}, and this is {_VERSION}")
    if length > min(size_bytes, _MOST_HEADER_BYTES):
        raise DamagedPrefix("its header is longer than the file")
    body = _read(file, length)
    digest = _read(file, _DIGEST_BYTES)
    if hashlib.sha256(start + body).digest() != digest:
        raise DamagedPrefix("the digest of its header is wrong")
    try:
        header = msgspec.msgpack.decode(body, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedPrefix(f"its header cannot be read: {error}") from error
    if len(header.tokens) % 4 or size_bytes != _START.size + length + 2 * _DIGEST_BYTES + header.state_bytes:
        raise DamagedPrefix("it has not the size that its header tells")
    return header, digest


def _read(file: BinaryIO, count: int) -> bytes:
    data = bytearray(count)
    _fill(file, memoryview(data))
    return bytes(data)


def _fill(file: BinaryIO, view: memoryview) -> None:
    while view:
        count = file.readinto(view)  # type: ignore[attr-defined]  # raw and buffered files both have it
        if not count:
            raise DamagedPrefix("it is cut off")
        view = view[count:]
