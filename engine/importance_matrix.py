"""What each column of a model's matrices counts, from a file as llama.cpp's llama-imatrix makes it. Pure.

Formats: tools/imatrix/imatrix.cpp of llama.cpp. Today's is GGUF: of each tensor the sums of the squares of what was
multiplied with it (``NAME.in_sum2``) and how often it was (``NAME.counts``, one for each expert). The one before (.dat)
has no magic: a count of entries, and for each the length of its name, the name, how often, the length of its sums, and
the sums. Anybody may have made the file, so that nothing in it is believed before it was looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.errors import InvalidRequest
from engine.gguf_reader import DEFAULT_ALIGNMENT, MAGIC, GgufDamaged, GgufReader
from engine.quantizer_log import LoggedTensor

Importance = Mapping[str, npt.NDArray[np.float32]]
"""By a tensor's name: a weight for each of its columns, of one expert after the other, and nothing in between."""

MOST_BYTES = 4 << 30
"""Of the largest mixtures of experts it is somewhat over 1 GB."""
_VERSIONS = (2, 3)
_SUMS, _COUNTS = ".in_sum2", ".counts"
_UINT32, _FLOATS = 4, 0
_MOST_NAME_BYTES = 256
_MOST_ENTRIES = 1 << 16


def read_importance(path: Path) -> Importance:
    """Raises InvalidRequest, which names ``imatrix``, for what cannot be read, is no such file, or is damaged."""
    try:
        # Before it is opened: a pipe would be waited for without end.
        if not path.is_file():
            raise InvalidRequest(
                f"there is no file {path}: name one that llama-imatrix has made", param="imatrix"
            )
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise InvalidRequest(
                f"{path.name} is larger than any importance matrix: name one that llama-imatrix has made",
                param="imatrix",
            )
        with path.open("rb") as file:
            reader = GgufReader(file, size)
            is_gguf = file.peek(len(MAGIC)).startswith(MAGIC)
            return _read_gguf(reader) if is_gguf else _read_legacy(reader)
    except OSError as error:
        raise InvalidRequest(
            f"{path} cannot be read ({error.strerror}): mend its place or rights", param="imatrix"
        ) from error
    except GgufDamaged as error:
        raise InvalidRequest(
            f"{path.name} is no importance matrix, or a damaged one ({error}): name one that llama-imatrix has made",
            param="imatrix",
        ) from None


def check_fits(name: str, importance: Importance, tensors: Iterable[LoggedTensor]) -> None:
    """Raises InvalidRequest if the matrix of the file ``name`` is not for a model that has these ``tensors``."""
    known = [tensor for tensor in tensors if tensor.name in importance]
    if not known:
        raise InvalidRequest(
            f"{name} tells of no tensor of this model: name one that was made with it", param="imatrix"
        )
    for tensor in known:
        columns, _, experts = (*tensor.shape, 1, 1)[:3]
        # Like llama.cpp: of the embeddings, some were made that fit nothing, and they do without.
        if importance[tensor.name].size != columns * experts and not tensor.name.startswith("token_embd"):
            raise InvalidRequest(
                f"{name} tells of {importance[tensor.name].size} columns of {tensor.name}, and the model has"
                f" {columns * experts}: name one that was made with it",
                param="imatrix",
            )


def _name(file: GgufReader, length: int) -> str:
    if not 0 < length <= _MOST_NAME_BYTES:
        raise GgufDamaged("a name is of no sensible length")
    try:
        name = file.take(length).decode()
    except UnicodeDecodeError:
        raise GgufDamaged("a name is no text") from None
    if not name.isprintable():
        raise GgufDamaged("a name is no text")
    return name


def _floats(file: GgufReader, count: int) -> npt.NDArray[np.float32]:
    return np.frombuffer(file.take(4 * count), "<f4")


def _read_gguf(file: GgufReader) -> Importance:
    file.take(len(MAGIC))
    if file.number("I") not in _VERSIONS:
        raise GgufDamaged("it is a GGUF of another version")
    tensors, values = file.number("Q"), file.number("Q")
    if tensors > 2 * _MOST_ENTRIES:
        raise GgufDamaged("it has more tensors than any")
    alignment = DEFAULT_ALIGNMENT
    for _ in range(values):
        key = _name(file, file.number("Q"))
        kind = file.number("I")
        if key == "general.alignment" and kind == _UINT32:
            alignment = file.number("I")
        else:
            file.skip_value(kind)
    if not alignment or alignment & (alignment - 1):
        raise GgufDamaged("its alignment is none")
    places: dict[str, tuple[int, int]] = {}
    for _ in range(tensors):
        name = _name(file, file.number("Q"))
        count = prod(file.shape())
        kind, offset = file.number("I"), file.number("Q")
        # llama-imatrix adds other sums in some versions; the quantiser has no use for them.
        if not name.endswith((_SUMS, _COUNTS)):
            continue
        if kind != _FLOATS:
            raise GgufDamaged("a tensor has no 32-bit floats")
        if name in places:
            raise GgufDamaged("a name is there twice")
        places[name] = offset, count
    begin = -(-file.position() // alignment) * alignment

    def floats(name: str) -> npt.NDArray[np.float32]:
        if name not in places:
            raise GgufDamaged("sums are without their counts, or counts without their sums")
        offset, count = places[name]
        file.go_to(begin + offset)
        return _floats(file, count)

    names = {name.removesuffix(_SUMS).removesuffix(_COUNTS) for name in places}
    return _sound({name: _means(floats(name + _SUMS), floats(name + _COUNTS)) for name in sorted(names)})


def _means(sums: npt.NDArray[np.float32], counts: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Of each expert its own; one that never had anything to do counts evenly, as for llama-quantize."""
    if not sums.size or not counts.size or sums.size % counts.size:
        raise GgufDamaged("sums do not divide by their counts")
    if not np.isfinite(counts).all():
        raise GgufDamaged("a count is no number")
    rows, columns = sums.reshape(counts.size, -1), counts[:, np.newaxis]
    with np.errstate(all="ignore"):
        return np.where(columns > 0, rows / columns, np.float32(1)).astype(np.float32).reshape(-1)


def _read_legacy(file: GgufReader) -> Importance:
    entries: dict[str, npt.NDArray[np.float32]] = {}
    count = file.number("i")
    if not 0 < count <= _MOST_ENTRIES:
        raise GgufDamaged("it does not begin as one")
    for _ in range(count):
        name = _name(file, file.number("i"))
        calls, columns = file.number("i"), file.number("i")
        if columns < 1:
            raise GgufDamaged("a tensor has no columns")
        if name in entries:
            raise GgufDamaged("a name is there twice")
        sums = _floats(file, columns)
        with np.errstate(all="ignore"):
            entries[name] = (sums / np.float32(calls) if calls > 0 else sums).astype(np.float32)
    # What follows in newer ones, the number of chunks and the name of the text, the quantiser has no use for.
    return _sound(entries)


def _sound(entries: Importance) -> Importance:
    if not entries:
        raise GgufDamaged("it tells of no tensor")
    for weights in entries.values():
        # Means of squares. llama.cpp ends its process on what is none.
        if not bool(np.isfinite(weights).all()) or bool((weights < 0).any()):
            raise GgufDamaged("a weight is negative, or no number")
    return entries
