"""A glance at a model file: is it a GGUF at all? No native code, and no more than its first bytes.

Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md. The deep check is the worker's, where a hostile
file can end nothing but the worker.
"""

from __future__ import annotations

import stat
import struct
from pathlib import Path

from engine.gguf_reader import MAGIC

_HEADER = struct.Struct("<4sIQQ")  # magic, version, number of tensors, number of metadata entries
_VERSIONS = (2, 3)
_COUNT_LIMIT = 1 << 32  # no model has four milliards of tensors: the counts are garbage


def header_problem(path: Path) -> str | None:
    """Why ``path`` cannot be a usable GGUF file and what mends it, or None. Never raises OSError."""
    try:
        # A pipe would be waited for without end, and whoever looks for models with it.
        if not stat.S_ISREG(path.stat().st_mode):
            return f"{path} is no file: name a .gguf file"
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        return (
            f"{path} cannot be read ({error.strerror}): give the user that runs nibble permission to read it"
        )
    return _problem(path, head)


def _problem(path: Path, head: bytes) -> str | None:
    if not head:
        return f"{path} is empty: download it again"
    if head.startswith(b"version https://git-lfs"):
        return f"{path} is a Git LFS pointer, not the model itself: run 'git lfs pull' where it was cloned"
    if head.lstrip()[:1] == b"<":
        return (
            f"{path} is a web page, not a model: download the file itself, with the address of its raw form"
        )
    if not head.startswith(MAGIC):
        return f"{path} is not a GGUF file: convert the model, or download its GGUF form"
    if len(head) < _HEADER.size:
        return f"{path} ends inside its header: the download was cut short, download it again"
    _, version, tensors, entries = _HEADER.unpack_from(head)
    if version not in _VERSIONS:
        if int.from_bytes(head[4:8], "big") in _VERSIONS:
            return f"{path} is a big-endian GGUF: download the little-endian form"
        return f"{path} has GGUF version {version}, this build reads 2 and 3: convert the model again"
    # The first part of a split model may hold the metadata alone (gguf-split --no-tensor-first-split); whether a file
    # without tensors is that, its metadata tell.
    if (tensors == 0 and entries == 0) or max(tensors, entries) >= _COUNT_LIMIT:
        return f"{path} has a damaged header ({tensors} tensors): download it again"
    return None
