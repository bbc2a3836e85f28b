"""What a model file says of itself, and whether it is as long as its tensors are. No native code.

Reads the whole header, some hundredths of a second for a large vocabulary: ``file_look`` does that once for a file
that stays the same, and ``gguf_header`` glances at its first bytes. A hostile header takes neither memory nor time: it
has limits that no model comes near. Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md. What it cannot tell,
whether the tensors are those that the architecture wants, is found by loading the file in a worker.
"""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path
from typing import BinaryIO

import msgspec

from engine.errors import ModelLoadFailed
from model_registry.sources.gguf_header import MAGIC, header_problem

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_DEFAULT_ALIGNMENT = 32
_MOST_DIMENSIONS = 4
_GLANCE_ENTRIES = 64
_KEPT_TEXT_BYTES = 1024
"""Longer texts, such as chat templates, are not kept: only that they are there."""
_MOST_ENTRIES, _MOST_TENSORS, _MOST_TEXTS, _MOST_HEADER_BYTES = 1 << 14, 1 << 16, 1 << 22, 128 << 20
"""Several times what the largest models have: some hundred entries, 20,000 tensors, half a million merges, 20 MB."""
_BLOCK_BYTES = 1 << 20
_LENGTH = struct.Struct("<Q")
TYPE_SIZES = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
"""Elements and bytes of a block, by ggml's number of the type (ggml.h, enum ggml_type; ggml-common.h)."""


class GgufLayout(msgspec.Struct, frozen=True, kw_only=True):
    """The header of one file; of a split model, of one part."""

    architecture: str
    name: str
    tensors: int
    vocabulary: int
    """Tokens; 0 in a later part of a split model, which has none."""
    has_template: bool
    file_bytes: int
    texts: dict[str, str]
    """Entries of the metadata that are short texts."""
    shapes: dict[str, tuple[int, ...]]
    """Of the tensors, by name; the length of a row comes first."""
    is_activated: bool
    """Whether it is a LoRA adapter that counts only behind certain tokens."""
    needed_bytes: int
    """Where the last tensor ends. Tensors of a type that is unknown here count with their beginning alone."""


def read_layout(path: Path) -> GgufLayout:
    """Raises ModelLoadFailed, with the mend, for a file that is no GGUF, damaged in its header, or too short."""
    if problem := header_problem(path):
        raise ModelLoadFailed(problem)
    try:
        with path.open("rb") as file:
            layout = _read(file, path.stat().st_size)
    except _Damaged as error:
        raise ModelLoadFailed(f"{path} is damaged in its header ({error}): download it again") from None
    except OSError as error:
        raise ModelLoadFailed(
            f"{path} cannot be read ({error.strerror}): see that its disk is well"
        ) from error
    if layout.needed_bytes > layout.file_bytes:
        raise ModelLoadFailed(
            f"{path} ends before its weights do ({layout.file_bytes} of {layout.needed_bytes} bytes):"
            " the download was cut short, download it again"
        )
    return layout


def is_adapter(path: Path) -> bool:
    """Whether the file says of itself that it is an adapter: a glance, as ``general.type`` comes early.

    A header that cannot be read says nothing.
    """
    if not path.is_file():
        return False  # opening a pipe would wait for somebody to write into it
    try:
        with path.open("rb") as file:
            header = _Header(file, path.stat().st_size)
            if header.take(4) != MAGIC:
                return False
            header.skip(12)
            for _ in range(min(header.number("Q"), _GLANCE_ENTRIES)):
                key, kind = header.text(), header.number("I")
                if key == "general.type":
                    return kind == _STRING and header.text() == "adapter"
                if kind == _ARRAY:
                    # Adapters have none before it, and those of a model are long.
                    return False
                header.skip_value(kind)
    except (OSError, _Damaged):
        pass
    return False


class _Damaged(Exception):
    pass


class _Header:
    """A cursor over the header that never goes beyond the file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def take(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            raise _Damaged("it ends within it")
        return data

    def skip(self, count: int) -> None:
        if self.position() + count > self._size:
            raise _Damaged("it ends within it")
        if self.position() + count > _MOST_HEADER_BYTES:
            raise _Damaged("it is larger than that of any model")
        self._file.seek(count, 1)

    def position(self) -> int:
        return self._file.tell()

    def number(self, form: str) -> int:
        value: int = struct.unpack(f"<{form}", self.take(struct.calcsize(form)))[0]
        return value

    def text(self) -> str | None:
        """None for one that is too long to be kept, which is passed over."""
        length = self.number("Q")
        if length > _KEPT_TEXT_BYTES:
            self.skip(length)
            return None
        return self.take(length).decode("utf-8", "replace")

    def skip_text(self) -> None:
        self.skip(self.number("Q"))

    def skip_texts(self, count: int) -> None:
        """By the block: a vocabulary has hundreds of thousands, and a call for each would take most of a second."""
        while count:
            block = self._file.read(min(_BLOCK_BYTES, 64 * count))
            here, last = 0, len(block) - _LENGTH.size
            if last < 0:
                raise _Damaged("it ends within it")
            while count and here <= last:
                here += _LENGTH.size + _LENGTH.unpack_from(block, here)[0]
                count -= 1
            self._file.seek(-len(block), 1)
            self.skip(here)

    def skip_value(self, kind: int) -> None:
        """Of one that is no array."""
        if kind == _STRING:
            self.skip_text()
        elif kind in _SCALARS:
            self.skip(struct.calcsize(f"<{_SCALARS[kind]}"))
        else:
            raise _Damaged(f"it has a value of the type {kind}, which there is not")


def _read(file: BinaryIO, size: int) -> GgufLayout:
    header = _Header(file, size)
    header.skip(8)
    tensors, entries = header.number("Q"), header.number("Q")
    if entries > _MOST_ENTRIES or tensors > _MOST_TENSORS:
        raise _Damaged(f"it has {entries} entries and {tensors} tensors")
    texts: dict[str, str] = {}
    numbers: dict[str, float] = {}
    lengths: dict[str, int] = {}
    for _ in range(entries):
        key = header.text() or ""
        kind = header.number("I")
        if kind == _STRING:
            texts[key] = header.text() or "long"
        elif kind == _ARRAY:
            lengths[key] = _skip_array(header)
        elif kind in _SCALARS:
            numbers[key] = header.number(_SCALARS[kind])
        else:
            raise _Damaged(f"'{key[:80]}' has the type {kind}, which there is not")
    shapes: dict[str, tuple[int, ...]] = {}
    ends = [_read_tensor(header, shapes) for _ in range(tensors)]
    alignment = numbers.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0 or alignment % 8:
        raise _Damaged(f"its alignment is {alignment}")
    begin = -(-header.position() // alignment) * alignment
    return GgufLayout(
        architecture=texts.get("general.architecture", ""),
        name=texts.get("general.name", ""),
        tensors=tensors,
        vocabulary=lengths.get("tokenizer.ggml.tokens", 0),
        has_template=bool(texts.get("tokenizer.chat_template")),
        texts=texts,
        shapes=shapes,
        is_activated="adapter.alora.invocation_tokens" in lengths,
        file_bytes=size,
        needed_bytes=begin + max(ends, default=0),
    )


def _skip_array(header: _Header) -> int:
    """The number of its elements."""
    kind, count = header.number("I"), header.number("Q")
    if kind == _STRING:
        if count > _MOST_TEXTS:
            raise _Damaged(f"it has an array of {count} texts")
        header.skip_texts(count)
    elif kind in _SCALARS:
        header.skip(count * struct.calcsize(f"<{_SCALARS[kind]}"))
    else:
        raise _Damaged(f"it has an array of the type {kind}, which there is not")
    return count


def _read_tensor(header: _Header, shapes: dict[str, tuple[int, ...]]) -> int:
    """Add its shape; return where the tensor ends, counted from where the first one begins."""
    name = header.text() or ""
    dimensions = header.number("I")
    if dimensions > _MOST_DIMENSIONS:
        raise _Damaged(f"tensor '{name[:80]}' has {dimensions} dimensions")
    shape = [header.number("Q") for _ in range(dimensions)]
    shapes[name] = tuple(shape)
    kind, offset = header.number("I"), header.number("Q")
    elements, block_bytes = TYPE_SIZES.get(kind, (1, 0))
    if shape and shape[0] % elements:
        raise _Damaged(f"a row of tensor '{name[:80]}' is no whole number of blocks")
    return offset + prod(shape) // elements * block_bytes
