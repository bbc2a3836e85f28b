"""An SQLite file of the server's that only its owner may read: made when it is needed, and known by its version."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_WAIT_S: Final = 5.0
"""For what another process writes."""


class NewerDatabaseError(Exception):
    """A file in a format that this version does not know."""


@dataclass(frozen=True, slots=True)
class PrivateDatabase:
    """Holds nothing open between two uses. May be used from any thread."""

    path: Path
    schema: str
    version: int

    @contextmanager
    def open(self, *, make: bool) -> Generator[sqlite3.Connection]:
        """A connection in autocommit mode, synchronised in full; with ``make``, to a file that need not be there.

        Raises NewerDatabaseError, and whatever SQLite and the disk raise.
        """
        if make:
            self._make_file()
        address = f"{self.path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=_WAIT_S, isolation_level=None)) as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version > self.version:
                raise NewerDatabaseError(f"{self.path} was written by a newer nibble: update this one")
            if version < self.version:
                database.execute("PRAGMA journal_mode = WAL")
                database.executescript(
                    f"BEGIN IMMEDIATE; {self.schema} PRAGMA user_version = {self.version}; COMMIT"
                )
            database.execute("PRAGMA synchronous = FULL")
            yield database

    def _make_file(self) -> None:
        """SQLite gives its journals the same mode."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
