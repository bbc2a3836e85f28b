"""What a model file says of itself, and whether it is as long as its tensors are. No native code.

Reads the whole header, some hundredths of a second for a large vocabulary: ``file_look`` does that once for a file
that stays the same, and ``gguf_header`` glances at its first bytes. What it cannot tell, whether the tensors are those
that the architecture wants, is found by loading the file in a worker.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import BinaryIO

import msgspec

from engine.errors import ModelLoadFailed
from engine.gguf_reader import ARRAY, DEFAULT_ALIGNMENT, MAGIC, SCALARS, STRING, GgufDamaged, GgufReader
from model_registry.sources.gguf_header import header_problem

_GLANCE_ENTRIES = 64
_TEMPLATE = "tokenizer.chat_template"
_MOST_TEMPLATE_BYTES = 4 << 20
"""Some hundred times the longest chat template; of what is longer there is no digest."""
_MOST_ENTRIES, _MOST_TENSORS = 1 << 14, 1 << 16
"""Several times what the largest models have: some hundred entries, 20,000 tensors."""
Number = bool | int | float
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
    template_sha256: str
    """Of the chat template as a worker is given it, in hex; empty where there is none, or none of a sane length."""
    file_bytes: int
    texts: dict[str, str]
    """Entries of the metadata that are short texts."""
    numbers: dict[str, Number]
    """Entries that are one number or a truth value, as what they are: a bool, an int or a float."""
    shapes: dict[str, tuple[int, ...]]
    """Of the tensors, by name; the length of a row comes first."""
    type_bytes: Mapping[int, int]
    """Bytes of weights in tensors of each type, by ggml's number of it."""
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
    except GgufDamaged as error:
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
    try:
        if not path.is_file():
            return False  # opening a pipe would wait for somebody to write into it
        with path.open("rb") as file:
            header = GgufReader(file, path.stat().st_size)
            if header.take(4) != MAGIC:
                return False
            header.skip(12)
            for _ in range(min(header.number("Q"), _GLANCE_ENTRIES)):
                key, kind = header.text(), header.number("I")
                if key == "general.type":
                    return kind == STRING and header.text() == "adapter"
                if kind == ARRAY:
                    # Adapters have none before it, and those of a model are long.
                    return False
                header.skip_value(kind)
    except (OSError, GgufDamaged):
        pass
    return False


def _read(file: BinaryIO, size: int) -> GgufLayout:
    header = GgufReader(file, size)
    header.skip(8)
    tensors, entries = header.number("Q"), header.number("Q")
    if entries > _MOST_ENTRIES or tensors > _MOST_TENSORS:
        raise GgufDamaged(f"it has {entries} entries and {tensors} tensors")
    texts: dict[str, str] = {}
    numbers: dict[str, Number] = {}
    lengths: dict[str, int] = {}
    template: str | None = ""
    for _ in range(entries):
        key = header.text() or ""
        kind = header.number("I")
        if kind == STRING and key == _TEMPLATE:
            # llama.cpp hands it on as a text of C's, which ends at a zero.
            text = header.text(_MOST_TEMPLATE_BYTES)
            template = None if text is None else text.partition("\0")[0]
        elif kind == STRING:
            if (text := header.text()) is not None:
                texts[key] = text
        elif kind == ARRAY:
            lengths[key] = header.skip_array()
        elif kind in SCALARS:
            numbers[key] = header.number(SCALARS[kind])
        else:
            raise GgufDamaged(f"'{key[:80]}' has the type {kind}, which there is not")
    if tensors == 0 and numbers.get("split.count", 0) <= 1:
        raise GgufDamaged("it has no tensors")
    shapes: dict[str, tuple[int, ...]] = {}
    type_bytes: Counter[int] = Counter()
    ends = [_read_tensor(header, shapes, type_bytes) for _ in range(tensors)]
    alignment = numbers.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0 or alignment % 8:
        raise GgufDamaged(f"its alignment is {alignment}")
    begin = -(-header.position() // alignment) * alignment
    return GgufLayout(
        architecture=texts.get("general.architecture", ""),
        name=texts.get("general.name", ""),
        tensors=tensors,
        vocabulary=lengths.get("tokenizer.ggml.tokens", 0),
        has_template=template != "",
        template_sha256=hashlib.sha256(template.encode()).hexdigest() if template else "",
        texts=texts,
        numbers=numbers,
        shapes=shapes,
        type_bytes=type_bytes,
        is_activated="adapter.alora.invocation_tokens" in lengths,
        file_bytes=size,
        # Where there are no tensors, as in the first part of some split models, nothing pads the header.
        needed_bytes=begin + max(ends) if ends else header.position(),
    )


def _read_tensor(header: GgufReader, shapes: dict[str, tuple[int, ...]], type_bytes: Counter[int]) -> int:
    """Add its shape and its bytes; return where the tensor ends, counted from where the first one begins."""
    name = header.text() or ""
    shapes[name] = shape = header.shape()
    kind, offset = header.number("I"), header.number("Q")
    elements, block_bytes = TYPE_SIZES.get(kind, (1, 0))
    if shape and shape[0] % elements:
        raise GgufDamaged(f"a row of tensor '{name[:80]}' is no whole number of blocks")
    size_bytes = prod(shape) // elements * block_bytes
    type_bytes[kind] += size_bytes
    return offset + size_bytes
