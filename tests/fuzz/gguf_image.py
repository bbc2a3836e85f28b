"""A GGUF file in its parts, so that each can be changed and the rest stay what it was.

Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3, little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Literal

AtomKind = Literal["number", "length", "type", "text", "float"]
_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_FLOATS = (6, 12)


@dataclass(slots=True)
class Atom:
    """One field: a number of 1 to 8 bytes, or a text, whose length is an atom of its own."""

    kind: AtomKind
    raw: bytes


@dataclass(slots=True)
class GgufImage:
    """The header, an entry for each pair of metadata and each tensor, and the weights."""

    head: list[Atom]
    """Magic, version, number of tensors, number of pairs."""
    pairs: list[list[Atom]] = field(default_factory=list)
    tensors: list[list[Atom]] = field(default_factory=list)
    weights: bytes = b""
    alignment: int = 32

    @classmethod
    def of(cls, data: bytes) -> GgufImage:
        """The parts of a sound file."""
        reader = _Reader(data)
        image = cls([reader.atom("text", 4), *(reader.atom("number", size) for size in (4, 8, 8))])
        _, _, tensors, pairs = (int.from_bytes(atom.raw, "little") for atom in image.head)
        image.pairs = [reader.pair() for _ in range(pairs)]
        image.tensors = [reader.tensor() for _ in range(tensors)]
        image.weights = data[-(-reader.at // image.alignment) * image.alignment :]
        return image

    def copy(self) -> GgufImage:
        """One to be changed; copy.deepcopy takes longer than loading the file does."""
        head, *others = (
            [Atom(atom.kind, atom.raw) for atom in part] for part in (self.head, *self.pairs, *self.tensors)
        )
        pairs, tensors = others[: len(self.pairs)], others[len(self.pairs) :]
        return GgufImage(head, pairs, tensors, self.weights, self.alignment)

    def bytes(self) -> bytes:
        header = b"".join(atom.raw for part in (self.head, *self.pairs, *self.tensors) for atom in part)
        return header + b"\0" * (-len(header) % self.alignment) + self.weights

    def atoms(self) -> list[Atom]:
        return [atom for part in (self.head, *self.pairs, *self.tensors) for atom in part]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def atom(self, kind: AtomKind, size: int) -> Atom:
        atom = Atom(kind, self._data[self.at : self.at + size])
        self.at += size
        return atom

    def _text(self) -> list[Atom]:
        length = self.atom("length", 8)
        return [length, self.atom("text", int.from_bytes(length.raw, "little"))]

    def pair(self) -> list[Atom]:
        key, kind = self._text(), self.atom("type", 4)
        return [*key, kind, *self._value(int.from_bytes(kind.raw, "little"))]

    def _value(self, kind: int) -> list[Atom]:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            of, count = self.atom("type", 4), self.atom("length", 8)
            items = range(int.from_bytes(count.raw, "little"))
            return [
                of,
                count,
                *(atom for _ in items for atom in self._value(int.from_bytes(of.raw, "little"))),
            ]
        return [self.atom("float" if kind in _FLOATS else "number", _SIZES[kind])]

    def tensor(self) -> list[Atom]:
        name, rank = self._text(), self.atom("length", 4)
        shape = [self.atom("number", 8) for _ in range(int.from_bytes(rank.raw, "little"))]
        return [*name, rank, *shape, self.atom("type", 4), self.atom("number", 8)]


def packed(value: int, size: int) -> bytes:
    """``value`` in ``size`` bytes, whatever is too large cut off."""
    return struct.pack("<Q", value % (1 << 64))[:size]
