"""Choices out of bytes, so that any bytes are an input and a small change of them is a small change of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

Choice = TypeVar("Choice")


class ByteSource:
    """Reads its bytes from the front. Once they are used up, every number is 0 and every choice the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_empty(self) -> bool:
        return self._at >= len(self._data)

    def number(self, most: int) -> int:
        """From 0 to ``most``, out of as many bytes as that takes."""
        size = max(1, (most.bit_length() + 7) // 8)
        return int.from_bytes(self.take(size), "little") % (most + 1)

    def choice(self, choices: Sequence[Choice]) -> Choice:
        return choices[self.number(len(choices) - 1)]

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes; fewer at the end."""
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def rest(self) -> bytes:
        return self.take(max(0, len(self._data) - self._at))

    def text(self, parts: Sequence[str], most: int) -> str:
        """At most ``most`` pieces: one byte each for one of ``parts``, others for characters of one to four bytes."""
        pieces: list[str] = []
        while len(pieces) < most and not self.is_empty:
            pieces.append(self._piece(parts))
        return "".join(pieces)

    def _piece(self, parts: Sequence[str]) -> str:
        first = self.number(255)
        if first < 128:
            return chr(first)
        if first < 144:
            code = self.number(0x10FFFF)
            return "é" if 0xD800 <= code < 0xE000 else chr(code)
        return parts[(first - 144) % len(parts)]

    def cuts(self, size: int, most: int) -> list[int]:
        """At most ``most`` places in something of ``size``, in order."""
        return sorted(self.number(size) for _ in range(self.number(most)))


def cut(whole: str, at: Sequence[int]) -> list[str]:
    return [whole[start:end] for start, end in pairwise((0, *at, len(whole)))]


def cut_bytes(whole: bytes, at: Sequence[int]) -> list[bytes]:
    return [whole[start:end] for start, end in pairwise((0, *at, len(whole)))]
