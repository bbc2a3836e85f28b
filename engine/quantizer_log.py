"""What llama.cpp's quantiser tells, which is nothing but lines of its log. Pure.

Format: llama-quant.cpp (``llama_model_quantize_impl``). A tensor's line comes in pieces, as it is worked on:
``[ 246/ 272] blk.27.attn_k.weight - [ 576, 192, 1, 1], type = q4_1, converting to q5_0 .. size = 0.07 MiB -> ...``;
where nothing is written, ``size = 0.07 MiB -> 0.07 MiB (q5_0)``, and of a tensor that stays as it is, its size alone.
Where there is an importance matrix that does not tell of the tensor, lines of their own say so in between.
"""

from __future__ import annotations

import math
import re

import msgspec

_TENSOR = re.compile(
    r"\[ *(?P<place>\d{1,9})/ *(?P<count>\d{1,9})\] +(?P<name>.+?) +- \[(?P<shape>[\d, ]+)\], type = *(?P<before>\w+), "
    r"(?:converting to +(?P<converted>\w+)|.*?-> .*?\((?P<planned>\w+)\)|)"
)
_FILE_TYPE = re.compile(r"- kv +\d+: +general\.file_type u32 += (?P<number>\d{1,9})$")
_FALLBACKS = re.compile(r"WARNING: (?P<count>\d+) of \d+ tensor\(s\) required fallback")
_FAILURE = re.compile(r"failed to quantize: (?P<cause>.*)")
_ASIDE = "\n====== "


class LoggedTensor(msgspec.Struct, frozen=True):
    """One tensor, as the log tells of it: its type before and after, by ggml's names."""

    place: int
    """From 1 to ``count``."""
    count: int
    name: str
    shape: tuple[int, ...]
    before: str
    after: str

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def size_bytes(self, block: tuple[int, int]) -> int:
        """Bytes of its numbers in a type that packs ``block[0]`` of them into ``block[1]`` bytes."""
        return -(-self.elements // block[0]) * block[1]


class QuantizerLog:
    """Reads a log line by line. Owned by the thread that quantises."""

    def __init__(self) -> None:
        self._line = ""
        self.tensors: list[LoggedTensor] = []
        self.file_type: int | None = None
        """Of the source, as its metadata has it."""
        self.fallbacks = 0
        """Tensors whose rows do not divide into the blocks of their type, and which get another."""
        self.cause = ""
        """Why it failed."""
        self.errors: list[str] = []

    def read(self, text: str, *, is_error: bool = False) -> bool:
        """Take in a piece of the log; whether a line about a tensor has ended with it."""
        if text.startswith(_ASIDE):
            return False  # what comes next goes on with the line that this breaks
        self._line += text
        *lines, self._line = self._line.split("\n")
        if is_error:
            self.errors.append(text.strip())
        return sum(self._read_line(line) for line in lines) > 0

    def _read_line(self, line: str) -> bool:
        # First: it may end the line about a tensor that was not written to its end.
        if found := _FAILURE.search(line):
            self.cause = found["cause"]
        elif found := _TENSOR.search(line):
            shape = tuple(int(size) for size in found["shape"].replace(",", " ").split())
            after = found["converted"] or found["planned"] or found["before"]
            self.tensors.append(
                LoggedTensor(
                    int(found["place"]), int(found["count"]), found["name"], shape, found["before"], after
                )
            )
            return True
        elif found := _FILE_TYPE.search(line):
            self.file_type = int(found["number"])
        elif found := _FALLBACKS.search(line):
            self.fallbacks = int(found["count"])
        return False
