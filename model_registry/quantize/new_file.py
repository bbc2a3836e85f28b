"""A file that nobody sees until it is whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from engine.disk.file_system import FileSystem
from engine.errors import InsufficientDisk, InvalidRequest
from model_registry.blobs import Blobs

_TOO_MUCH = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NewFile:
    """``.NAME.new`` beside what it is to be, locked for as long as somebody works on it. Owned by one thread.

    The name is one that no source looks at. The lock goes with its owner, however that ends, so that what a power
    cut has left is known to be nobody's.
    """

    def __init__(self, target: Path, system: FileSystem) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}.new")
        self._system = system
        self._descriptor: int | None = None

    def begin(self) -> None:
        """Make it, empty. Raises InvalidRequest while another process is making it, and InsufficientDisk."""
        with refusals(self.target):
            self.target.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.path.samestat(os.fstat(descriptor), self.path.stat()):
                    raise BlockingIOError  # the one who had it has just finished with it
                os.ftruncate(descriptor, 0)
            except (BlockingIOError, FileNotFoundError):
                os.close(descriptor)
                raise InvalidRequest(
                    f"{self.target.name} is being made by another process: wait for it, or take another name",
                    param="name",
                ) from None
            except BaseException:
                os.close(descriptor)
                raise
            self._descriptor = descriptor

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    def finish(self, digest: str) -> Path:
        """Give it its name, once its bytes, of that SHA-256 in hex, are on the disk: see ``Blobs``.

        Raises InvalidRequest where the name is taken by now, and InsufficientDisk.
        """
        assert self._descriptor is not None, "begun before it is finished"
        with refusals(self.target):
            self._system.sync(self._descriptor)
            try:
                Blobs(self.target.parent, self._system).keep(self.path, digest, self.target.name)
            except FileExistsError:
                raise InvalidRequest(
                    f"{self.target} has come to be meanwhile: take another name", param="name"
                ) from None
        os.close(self._descriptor)
        self._descriptor = None
        return self.target

    def close(self) -> None:
        """Let go of it; what has not been finished is removed."""
        if self._descriptor is None:
            return
        # Before the lock is given back: then nobody else's is removed.
        with contextlib.suppress(OSError):
            self._system.remove(self.path)
        os.close(self._descriptor)
        self._descriptor = None


def sweep(directory: Path) -> None:
    """Remove what processes have left in ``directory`` that were killed: files that nobody holds the lock of."""
    for path in directory.glob(".*.gguf.new"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)


@contextmanager
def refusals(target: Path) -> Generator[None]:
    """The operating system's refusals to write ``target`` as InsufficientDisk, which names the mend."""
    try:
        yield
    except OSError as error:
        mend = "make room" if error.errno in _TOO_MUCH else "see to its directory"
        raise InsufficientDisk(
            f"{target} cannot be written ({error.strerror}): {mend}, or name another --models-dir"
        ) from error
