"""How many bytes were ever fetched, by kind of source: a small file that every process which pulls adds to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

import msgspec

from model_registry.pull.file_lock import file_lock

FILE_NAME: Final = "downloads.json"
DOWNLOAD_SOURCES: Final = ("hf", "http", "https", "pypi", "other")
_GATHER_BYTES: Final = 32 << 20
"""Entered at once; what a process that is killed outright may leave out."""
Progress = Callable[[int, int | None], None]


def source_of(what: str) -> str:
    """The kind of what a person names to be pulled: one of ``DOWNLOAD_SOURCES``."""
    kind = what.partition(":")[0].lower()
    return kind if kind in DOWNLOAD_SOURCES else "other"


class DownloadTally:
    """One file in the data directory. Any thread or process may use it. Statistics: its failures fail nobody."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE_NAME

    def read(self) -> dict[str, int]:
        """Bytes by source; empty where nothing was ever fetched, or the file cannot be read. Blocking."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.DecodeError):
            return {}

    def add(self, source: str, count: int) -> None:
        """Enter ``count`` bytes. Blocking."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(self._path.with_name(f".{FILE_NAME}.lock")):
                total = self.read()
                total[source] = total.get(source, 0) + count
                new = self._path.with_suffix(".new")
                new.write_bytes(msgspec.json.encode(total))
                new.replace(self._path)

    @contextlib.contextmanager
    def counting(self, source: str, progress: Progress) -> Generator[Progress]:
        """A ``progress`` to give to a download: it tells the other one, and what came is entered, also on failure.

        The first call of each attempt says where it begins, so what was here before is not counted.
        """
        seen: int | None = None
        pending = 0

        def counted(here: int, whole: int | None) -> None:
            nonlocal seen, pending
            if seen is not None and here > seen:
                pending += here - seen
            seen = here
            if pending >= _GATHER_BYTES:
                self.add(source, pending)
                pending = 0
            progress(here, whole)

        try:
            yield counted
        finally:
            if pending:
                self.add(source, pending)
