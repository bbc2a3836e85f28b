"""Quantising one file, in a process of its own: ``python -m engine.quantization``, spoken to by ``engine.job_pipe``.

It is told a ``Quantize`` and tells a ``Written`` after each tensor, and at the end a ``Planned`` or a ``Failed``.
llama.cpp aborts on damaged headers, and a file may claim any size: both end this process, which is limited in its
memory and the first to go where memory runs out.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine import helper_pipe, job_pipe
from engine.errors import (
    ErrorRecord,
    InsufficientDisk,
    InsufficientMemory,
    InvalidRequest,
    ModelLoadFailed,
    NibbleError,
)
from engine.importance_matrix import MOST_BYTES, Importance, check_fits, read_importance
from engine.job_pipe import Failed
from engine.load_fault import load_fault
from engine.quantization_type import QUANTIZATION_TYPES
from engine.quantizer_log import QuantizerLog

ALIGNMENT = 32
"""Bytes: every tensor of a GGUF file begins at a multiple (general.alignment, where the file says nothing else)."""
_BASE_BYTES = 2 << 30
_BYTES_PER_SOURCE_BYTE = 12
"""The mapped file, its largest tensor as 32-bit floats (7 times a 4-bit one, if there is but one), and the new one."""
_BYTES_PER_IMPORTANCE_BYTE = 4
"""The file, its weights, llama.cpp's copy of these, and one tensor's on their way."""
_MISSING = re.compile(r"Missing importance matrix for tensor (?P<tensor>\S+)")
_THREAD_BYTES = 256 << 20
"""Of addresses: a stack, and an arena of the allocator."""


class Quantize(msgspec.Struct, frozen=True, kw_only=True):
    """What to do."""

    source: str
    """The file; of a split model its first part, next to which llama.cpp finds the others."""
    source_bytes: int
    """All parts together."""
    to: str
    """A name of ``engine.quantization_type``."""
    target: str = ""
    """The file to write; empty only plans."""
    imatrix: str = ""
    """The file of an importance matrix; empty is none."""
    threads: int
    allow_requantize: bool


class PlannedTensor(msgspec.Struct, frozen=True, array_like=True):
    """One tensor of the model."""

    name: str
    before: str
    """ggml's name of its type."""
    before_bytes: int
    after: str
    after_bytes: int


class Planned(msgspec.Struct, frozen=True, tag="planned"):
    """What would be made of the file, or was."""

    tensors: tuple[PlannedTensor, ...]
    file_type: int | None
    """``general.file_type`` of the source."""
    fallbacks: int
    """Tensors that get another type than they should, since their rows do not divide into its blocks."""
    unweighed: int = 0
    """Tensors that are rounded, and of which the importance matrix does not tell; 0 where there is none."""


class Written(msgspec.Struct, frozen=True, tag="written"):
    tensors: int
    """So many are done."""


Line = Planned | Written | Failed


def estimated_bytes(source_bytes: int, tensors: Sequence[PlannedTensor]) -> int:
    """How large the new file will be: its tensors, and the source's metadata, which is what is no tensor in it.

    True to a few KB: llama.cpp writes its own keys in place of some, and a split model's parts all have a header.
    """
    before = sum(padded(tensor.before_bytes) for tensor in tensors)
    return max(0, source_bytes - before) + sum(padded(tensor.after_bytes) for tensor in tensors)


def padded(size_bytes: int) -> int:
    """Bytes that a tensor of ``size_bytes`` takes in a file."""
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT


def quantization_fault(name: str, to: str, log: QuantizerLog) -> NibbleError:
    """Why the file ``name`` could not be quantised, told from what the quantiser logged, and what mends it."""
    cause = log.cause
    if found := _MISSING.search(cause):
        return InvalidRequest(
            f"the importance matrix does not tell of {found['tensor']}, and {to} needs that: choose another type, or"
            " a matrix of the whole model",
            param="imatrix",
        )
    if "requires an imatrix" in cause:
        return InvalidRequest(
            f"{to} needs an importance matrix for this model: give one, or choose another type", param="to"
        )
    if "requantizing" in cause:
        return InvalidRequest(f"{name} is quantised already ({cause})", param="allow_requantize")
    if "no tensor type fallback" in cause:
        return InvalidRequest(
            f"the rows of this model do not divide into blocks of {to}: choose another type", param="to"
        )
    if "iostream" in cause or "basic_ios" in cause:
        return InsufficientDisk(
            f"the new file cannot be written to its end: make room on the disk, then quantise {name} again"
        )
    if "bad_alloc" in cause:
        return InsufficientMemory(
            f"{name} cannot be quantised in the memory there is: free some, or fetch a file of that type"
        )
    return ModelLoadFailed(load_fault(name, [*log.errors, f"error loading model: {cause}"]))


def _plan(log: QuantizerLog, importance: Importance | None = None) -> Planned:
    # Only here, in the process that may die of it: whoever asks imports the module for its messages.
    from engine.native import quantizer

    blocks = quantizer.tensor_blocks()
    tensors = tuple(
        PlannedTensor(
            tensor.name,
            tensor.before,
            tensor.size_bytes(blocks[tensor.before]),
            tensor.after,
            tensor.size_bytes(blocks[tensor.after]),
        )
        for tensor in log.tensors
    )
    rounded = [tensor.name for tensor in tensors if tensor.before != tensor.after]
    unweighed = 0 if importance is None else sum(name not in importance for name in rounded)
    return Planned(tensors, log.file_type, log.fallbacks, unweighed)


def _tell(line: Line) -> None:
    job_pipe.tell(msgspec.json.encode(line))


def _run(request: Quantize) -> None:
    """Raises NibbleError."""
    name = Path(request.source).name
    from engine.native import quantizer
    from engine.native.model import check_is_gguf

    check_is_gguf(Path(request.source))
    imatrix = Path(request.imatrix)
    importance = read_importance(imatrix) if request.imatrix else None
    succeeded, log = quantizer.quantize(
        request.source,
        request.target,
        QUANTIZATION_TYPES[request.to],
        threads=request.threads,
        allow_requantize=request.allow_requantize,
        is_dry=not request.target,
        importance=importance,
        on_tensor=lambda log: _tell(Written(len(log.tensors))) if request.target else None,
    )
    if not succeeded:
        raise quantization_fault(name, request.to, log)
    if importance is not None:
        # Behind the plan, which tells the shapes. What is written was planned before.
        check_fits(imatrix.name, importance, log.tensors)
    _tell(_plan(log, importance))


def main() -> None:
    target = Path()

    def remove() -> None:
        with contextlib.suppress(OSError):
            target.unlink()

    request = msgspec.json.decode(job_pipe.read_request(remove), type=Quantize)
    target = Path(request.target)
    # Processors do it all; and a driver for CUDA takes more addresses than there will be.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    memory_bytes = _BASE_BYTES + _BYTES_PER_SOURCE_BYTE * request.source_bytes
    with contextlib.suppress(OSError):  # what cannot be looked at is refused when it is read
        if request.imatrix:
            size = Path(request.imatrix).stat().st_size
            memory_bytes += _BYTES_PER_IMPORTANCE_BYTE * min(size, MOST_BYTES)
    helper_pipe.confine(memory_bytes + request.threads * _THREAD_BYTES)
    try:
        _run(request)
    except NibbleError as error:
        _tell(Failed(ErrorRecord.of(error)))
        sys.exit(1)


if __name__ == "__main__":
    main()
