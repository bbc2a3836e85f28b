"""What the disk tier asks of the operating system; tests put one in its place that fails, or dies, at will."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A regular file, as the directory tells of it."""

    path: Path
    size_bytes: int
    used_ns: int
    """Time of the last use, kept as the file's modification time: access times are often not kept at all."""


class FileSystem:
    """The real one. Every method raises OSError; may be called from any thread."""

    def make_directory(self, path: Path) -> None:
        """Make ``path``, which only its owner may enter, unless it is there."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def files(self, root: Path) -> Iterator[FileFacts]:
        """The files in the directories of ``root``. What vanishes meanwhile is left out."""
        for directory in self._directories(root):
            yield from self.files_in(directory)

    @staticmethod
    def _directories(root: Path) -> list[Path]:
        with os.scandir(root) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]

    def files_in(self, directory: Path) -> Iterator[FileFacts]:
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    try:
                        if entry.is_file(follow_symlinks=False):
                            status = entry.stat(follow_symlinks=False)
                            yield FileFacts(Path(entry.path), status.st_size, status.st_mtime_ns)
                    except FileNotFoundError:
                        continue
        except FileNotFoundError:
            return

    def create(self, path: Path) -> int:
        """A descriptor of a new file that only its owner may read, locked for as long as it is open."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> None:
        """Write all of ``data``."""
        while data:
            data = data[os.write(descriptor, data) :]

    def set_used(self, target: int | Path, used_ns: int) -> None:
        os.utime(target, ns=(used_ns, used_ns))

    def sync(self, descriptor: int) -> None:
        """Wait until what was written is on the medium."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def link(self, path: Path, target: str) -> None:
        """Make ``path`` a symbolic link to ``target``. Raises FileExistsError where there is something."""
        path.symlink_to(target)

    def sync_directory(self, path: Path) -> None:
        """Wait until the names in ``path`` are on the medium."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def open(self, path: Path) -> BinaryIO:
        """The file for reading, without a buffer of Python's."""
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0)

    def remove(self, path: Path) -> None:
        """Remove ``path``, unless it is gone already."""
        path.unlink(missing_ok=True)

    def remove_directory(self, path: Path) -> None:
        """Remove ``path`` if nothing is in it."""
        with contextlib.suppress(OSError):
            path.rmdir()

    def is_abandoned(self, path: Path) -> bool:
        """Whether nobody writes ``path`` any more: its lock went with its writer, however that ended."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True
