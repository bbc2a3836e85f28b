"""What interrupted pulls, vanished files and models that are gone leave behind: found, and removed on a word."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from engine.disk.label import LABEL_ENDING, is_gone
from model_registry.blobs import Blobs
from model_registry.pull.file_lock import is_held, remove_lock
from model_registry.pull.packages import PACKAGES
from model_registry.store.model_store import ModelStore

Kind = Literal["partial download", "package", "blob", "dangling link", "lock", "record", "prefixes"]


class Leftover(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that nothing uses."""

    kind: Kind
    what: str
    """A path; for a record, the id of the model."""
    file_bytes: int = 0
    note: str = ""
    """What goes with it."""


def leftovers(models_dir: Path, data_dir: Path, known: set[str]) -> list[Leftover]:
    """Everything that could go. ``known`` are the ids of all models there are.

    Records are none where ``models_dir`` has nothing at all: a disk that is not mounted looks just like that, and
    what was said of its models (aliases, settings, notes) is to be there when it comes back.
    What a pull that runs is writing is none: it holds its lock. Raises StoreError.
    """
    return [
        *_partial(models_dir),
        *_partial(models_dir / PACKAGES),
        *_packages(models_dir / PACKAGES),
        *_blobs(models_dir),
        *_dangling(models_dir),
        *_locks(models_dir),
        *_locks(models_dir / PACKAGES),
        *(_records(data_dir, known) if _has_files(models_dir) else ()),
        *_prefixes(data_dir / "prefixes"),
    ]


def remove(leftover: Leftover, data_dir: Path) -> bool:
    """Whether it is gone; False for one that somebody uses again. Raises OSError and StoreError."""
    path = Path(leftover.what)
    match leftover.kind:
        case "record":
            ModelStore.in_directory(data_dir).forget(leftover.what)
        case "lock":
            return remove_lock(path)
        case "blob":
            return Blobs(path.parent.parent).remove_stray(path)
        case "prefixes":
            shutil.rmtree(path, ignore_errors=True)
            path.with_name(path.name + LABEL_ENDING).unlink(missing_ok=True)
            return not path.exists()
        case "dangling link":
            # Looked at again: its disk may have come back.
            if path.exists():
                return False
            path.unlink(missing_ok=True)
        case "partial download" | "package":
            if _is_locked(path):
                return False
            path.unlink(missing_ok=True)
    return True


def _partial(directory: Path) -> Iterator[Leftover]:
    for path in _files(directory, ".*"):
        if path.name.endswith((".part", ".part.json", ".part.new")) and not _is_locked(path):
            yield Leftover(kind="partial download", what=str(path), file_bytes=_size(path))


def _packages(directory: Path) -> Iterator[Leftover]:
    for path in _files(directory, "*.whl"):
        if not _is_locked(path):
            yield Leftover(kind="package", what=str(path), file_bytes=_size(path))


def _blobs(models_dir: Path) -> Iterator[Leftover]:
    with contextlib.suppress(OSError):
        for path in Blobs(models_dir).strays():
            yield Leftover(kind="blob", what=str(path), file_bytes=_size(path), note="no name leads to it")


def _dangling(directory: Path) -> Iterator[Leftover]:
    for path in _files(directory, "*"):
        if path.is_symlink() and not path.exists() and path.name.lower().endswith(".gguf"):
            yield Leftover(kind="dangling link", what=str(path), note=f"led to {path.readlink()}")


def _locks(directory: Path) -> Iterator[Leftover]:
    for path in _files(directory, ".*.lock"):
        if not _is_held(path):
            yield Leftover(kind="lock", what=str(path))


def _records(data_dir: Path, known: set[str]) -> Iterator[Leftover]:
    for record in ModelStore.in_directory(data_dir).records().values():
        if record.id in known:
            continue
        lost = [
            name
            for name, value in (
                ("aliases", record.aliases),
                ("settings", record.settings.given()),
                ("tags", record.tags),
                ("notes", record.notes),
            )
            if value
        ]
        yield Leftover(
            kind="record", what=record.id, note=f"its {', '.join(lost)} would be lost" if lost else ""
        )


def _prefixes(root: Path) -> Iterator[Leftover]:
    for label in _files(root, f"*{LABEL_ENDING}"):
        directory = label.with_name(label.name.removesuffix(LABEL_ENDING))
        if is_gone(label):
            size = sum(_size(path) for path in _files(directory, "*"))
            yield Leftover(
                kind="prefixes", what=str(directory), file_bytes=size, note="of a model file that is gone"
            )


def _has_files(directory: Path) -> bool:
    try:
        return any(directory.iterdir())
    except OSError:
        return False


def _files(directory: Path, pattern: str) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(path for path in directory.glob(pattern) if path.is_symlink() or not path.is_dir())
    return []


def _is_locked(path: Path) -> bool:
    """Whether a pull that runs owns the partial download ``path``, or the package."""
    name = path.name.lstrip(".")
    for ending in (".part.json", ".part.new", ".part"):
        name = name.removesuffix(ending)
    return _is_held(path.with_name(f".{name}.lock"))


def _is_held(lock: Path) -> bool:
    try:
        return is_held(lock)
    except OSError:
        # It is somebody else's, and so is what it guards.
        return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
