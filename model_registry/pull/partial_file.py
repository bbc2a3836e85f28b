"""What has been fetched of a file so far, and of which file it is a part."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import IO

import msgspec

from engine.disk.file_system import FileSystem
from model_registry.blobs import Blobs
from model_registry.file_digest import file_digest
from model_registry.pull.pull_error import PullCancelled


class PartialState(msgspec.Struct, frozen=True, kw_only=True):
    """What tells whether the rest of a file on a server belongs to what is here."""

    url_sha256: str
    """Not the address itself: what it asks with may be a secret."""
    validator: str | None
    """The server's strong ETag; None where it gives none, and then nothing can be continued."""
    file_bytes: int | None

    def fits(self, validator: str | None, file_bytes: int | None) -> bool:
        """Whether an answer that tells these is about the same file."""
        return validator in (None, self.validator) and file_bytes in (None, self.file_bytes)


def url_digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


class PartialFile:
    """``.NAME.part`` with ``.NAME.part.json`` beside it. Owned by the holder of the file's lock."""

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / f".{name}.part"
        self._state_path = directory / f".{name}.part.json"
        self._target = directory / name

    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def state(self) -> PartialState | None:
        try:
            return msgspec.json.decode(self._state_path.read_bytes(), type=PartialState)
        except (OSError, msgspec.DecodeError, msgspec.ValidationError):
            return None

    def restart(self, state: PartialState) -> IO[bytes]:
        """Begin anew: whatever was there is gone before anything says that it is of the new file."""
        self.discard()
        new = self._state_path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(state))
        new.replace(self._state_path)
        return self.path.open("wb")

    def resume(self) -> IO[bytes]:
        return self.path.open("ab")

    def discard(self) -> None:
        for path in (self.path, self._state_path):
            path.unlink(missing_ok=True)

    def sha256(self, cancel: threading.Event) -> str:
        """In hex. Raises PullCancelled when ``cancel`` is set meanwhile: hashing gigabytes takes a while."""

        def look(here: int) -> None:
            if cancel.is_set():
                raise PullCancelled("the pull was cancelled")

        return file_digest(self.path, look)

    def finish(self) -> Path:
        """Give the file its name, once its bytes are on the disk."""
        self._sync()
        self.path.replace(self._target)
        self._state_path.unlink(missing_ok=True)
        FileSystem().sync_directory(self._target.parent)
        return self._target

    def keep(self, digest: str) -> Path:
        """The same of one that lies under its digest from now on, and there has a name."""
        self._sync()
        path = Blobs(self._target.parent).keep(self.path, digest, self._target.name)
        self._state_path.unlink(missing_ok=True)
        return path

    def _sync(self) -> None:
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
