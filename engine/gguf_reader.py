"""A cursor over the header of a GGUF file, which believes nothing that it reads. No native code.

A hostile header takes neither memory nor time: what is long is passed over, and there are limits that no file comes
near. Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

MAGIC = b"GGUF"
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Struct formats by the number of a type."""
STRING, ARRAY = 8, 9
DEFAULT_ALIGNMENT = 32
MOST_DIMENSIONS = 4
_KEPT_TEXT_BYTES = 1024
"""Longer texts are not kept."""
_MOST_TEXTS, _MOST_HEADER_BYTES = 1 << 22, 128 << 20
"""Several times what the largest models have: half a million merges, 20 MB."""
_BLOCK_BYTES = 1 << 20
_LENGTH = struct.Struct("<Q")


class GgufDamaged(Exception):
    """What is wrong with it, in words that go on from "is damaged in its header"."""


class GgufReader:
    """Never goes beyond the file. Every method raises GgufDamaged and OSError."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def take(self, count: int) -> bytes:
        data = self._file.read(count) if count <= self._size else b""
        if len(data) != count:
            raise GgufDamaged("it ends too early")
        return data

    def skip(self, count: int) -> None:
        self.check(count)
        self._file.seek(count, 1)

    def check(self, count: int) -> None:
        """That so much more may be read or passed over."""
        if self.position() + count > self._size:
            raise GgufDamaged("it ends too early")
        if self.position() + count > _MOST_HEADER_BYTES:
            raise GgufDamaged("it is larger than that of any model")

    def position(self) -> int:
        return self._file.tell()

    def go_to(self, position: int) -> None:
        """Behind the header too, where the data of tensors is."""
        if position > self._size:
            raise GgufDamaged("it ends too early")
        self._file.seek(position)

    def number(self, form: str) -> int:
        """``form`` is one of ``SCALARS``."""
        value: int = struct.unpack(f"<{form}", self.take(struct.calcsize(form)))[0]
        return value

    def text(self, most_bytes: int = _KEPT_TEXT_BYTES) -> str | None:
        """None for one that is longer, which is passed over."""
        length = self.number("Q")
        if length > most_bytes:
            self.skip(length)
            return None
        # One that is there again and again would be read for minutes.
        self.check(length)
        return self.take(length).decode("utf-8", "replace")

    def skip_value(self, kind: int) -> None:
        """Of a type of that number."""
        if kind == ARRAY:
            self.skip_array()
        elif kind == STRING:
            self.skip(self.number("Q"))
        elif kind in SCALARS:
            self.skip(struct.calcsize(f"<{SCALARS[kind]}"))
        else:
            raise GgufDamaged(f"it has a value of the type {kind}, which there is not")

    def skip_array(self) -> int:
        """The number of its elements."""
        kind, count = self.number("I"), self.number("Q")
        if kind == STRING:
            if count > _MOST_TEXTS:
                raise GgufDamaged(f"it has an array of {count} texts")
            self._skip_texts(count)
        elif kind in SCALARS:
            self.skip(count * struct.calcsize(f"<{SCALARS[kind]}"))
        else:
            raise GgufDamaged(f"it has an array of the type {kind}, which there is not")
        return count

    def _skip_texts(self, count: int) -> None:
        """By the block: a vocabulary has hundreds of thousands, and a call for each would take most of a second."""
        while count:
            block = self._file.read(min(_BLOCK_BYTES, 64 * count))
            here, last = 0, len(block) - _LENGTH.size
            if last < 0:
                raise GgufDamaged("it ends too early")
            while count and here <= last:
                here += _LENGTH.size + _LENGTH.unpack_from(block, here)[0]
                count -= 1
            self._file.seek(-len(block), 1)
            self.skip(here)

    def shape(self) -> tuple[int, ...]:
        """Of a tensor; the length of a row comes first."""
        dimensions = self.number("I")
        if dimensions > MOST_DIMENSIONS:
            raise GgufDamaged(f"a tensor has {dimensions} dimensions")
        return tuple(self.number("Q") for _ in range(dimensions))
