"""What a quantisation would make, before anything is written."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import msgspec

from engine.errors import InsufficientDisk
from engine.quantization import Planned, estimated_bytes, padded
from engine.quantization_type import QUANTIZATION_TYPES, QuantizationType, type_of_number

_FLOATS = ("f32", "f16", "bf16", "f64")
_SPARE_BYTES = 64 << 20
"""Disk that is left alone: a full disk harms more than this file."""


class QuantizationPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One model's file, and the one to be made of it."""

    model: str
    """Id of the model."""
    source: Path
    source_bytes: int
    """All parts of a split model together."""
    source_type: QuantizationType | None
    """As the file tells; None where it says nothing that is known here."""
    is_requantized: bool
    """Whether tensors are rounded again that were rounded already."""
    to: QuantizationType
    target: Path
    target_bytes: int
    """An estimate, true to a few KB (``engine.quantization.estimated_bytes``)."""
    tensor_bytes: tuple[int, ...]
    """Of each tensor in the new file, in its order."""
    fallbacks: int
    """Tensors that get another type than ``to`` has for them, since their rows do not divide into its blocks."""
    imatrix: Path | None = None
    """The file that tells how much each column counts."""
    unweighed: int = 0
    """Tensors that are rounded, and of which that file does not tell."""

    @property
    def cost(self) -> str:
        """What it costs to round again what was rounded, as a sentence; empty where that is not so."""
        if not self.is_requantized:
            return ""
        was = self.source_type.name if self.source_type else "quantised"
        if self.source_type is not None and self.to.bits >= self.source_type.bits + 2:
            return (
                f"{self.model} is {was} already: what that rounded away stays lost, and {self.to.name} adds"
                " next to nothing to it"
            )
        return (
            f"{self.model} is {was} already, and is rounded a second time: from 4 bits to 4 bits that has cost"
            " 3 to 20 % of perplexity and more ('nibble tune' measures it); a file made from the F16 loses less"
        )

    def check_disk(self) -> None:
        """Raises InsufficientDisk, with the numbers."""
        directory = self.target.parent
        while not directory.exists():
            directory = directory.parent
        free = shutil.disk_usage(directory).free
        if self.target_bytes + _SPARE_BYTES > free:
            raise InsufficientDisk(
                f"{self.target.name} will take about {self.target_bytes / 1e6:,.0f} MB, and {directory} has"
                f" {free / 1e6:,.0f} MB free: make room, or name another --models-dir"
            )


def source_type(planned: Planned) -> QuantizationType | None:
    """What the file says of itself, and where it says nothing, the type of most of its bytes; None for any other."""
    if planned.file_type is not None:
        return type_of_number(planned.file_type)
    sizes: Counter[str] = Counter()
    for tensor in planned.tensors:
        sizes[tensor.before.upper()] += tensor.before_bytes
    return QUANTIZATION_TYPES.get(sizes.most_common(1)[0][0]) if sizes else None


def plan_of(
    planned: Planned,
    *,
    model: str,
    source: Path,
    source_bytes: int,
    to: QuantizationType,
    target: Path,
    imatrix: Path | None = None,
) -> QuantizationPlan:
    """The plan that ``planned``, which the quantiser has told, makes."""
    return QuantizationPlan(
        model=model,
        source=source,
        source_bytes=source_bytes,
        source_type=source_type(planned),
        is_requantized=any(
            tensor.before not in _FLOATS and tensor.before != tensor.after for tensor in planned.tensors
        ),
        to=to,
        target=target,
        target_bytes=estimated_bytes(source_bytes, planned.tensors),
        tensor_bytes=tuple(padded(tensor.after_bytes) for tensor in planned.tensors),
        fallbacks=planned.fallbacks,
        imatrix=imatrix,
        unweighed=planned.unweighed,
    )
