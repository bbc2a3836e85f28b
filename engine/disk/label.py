"""Which model file the saved prefixes of a key belong to, so that they can be removed when it is gone.

A file ``KEY.model`` beside the directory of the key, not in it: what is in there counts towards the limit.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

LABEL_ENDING = ".model"


class _Label(msgspec.Struct, frozen=True):
    path: str
    file_bytes: int
    mtime_ns: int


def write_label(root: Path, key: str, model: Path) -> None:
    """Best effort: prefixes without a label are left to the limit of the disk, as all were once."""
    label, unfinished = root / f"{key}{LABEL_ENDING}", root / f".{key}{LABEL_ENDING}.{os.getpid()}"
    with contextlib.suppress(OSError):
        status = model.stat()
        text = msgspec.json.encode(_Label(str(model.absolute()), status.st_size, status.st_mtime_ns))
        if label.is_file() and label.read_bytes() == text:
            return
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished.write_bytes(text)
        unfinished.chmod(0o600)
        unfinished.replace(label)


def is_gone(label: Path) -> bool:
    """Whether the model file that ``label`` names is there no more, or is another. What cannot be told is not gone."""
    try:
        told = msgspec.json.decode(label.read_bytes(), type=_Label)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return False
    try:
        status = Path(told.path).stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) != (told.file_bytes, told.mtime_ns)
