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
    """Holds nothing open itself. May be used from any thread."""

    path: Path
    schema: str
    version: int

    @contextmanager
    def open(self, *, make: bool) -> Generator[sqlite3.Connection]:
        """A connection for one use. Raises what ``connect`` raises."""
        with closing(self.connect(make=make)) as database:
            yield database

    def connect(self, *, make: bool) -> sqlite3.Connection:
        """A connection in autocommit mode, synchronised in full, for one thread at a time and the caller to close; with
        ``make``, to a file that need not be there.

        Raises NewerDatabaseError, and whatever SQLite and the disk raise.
        """
        if make:
            self._make_file()
        address = f"{self.path.absolute().as_uri()}?mode=rw"
        database = sqlite3.connect(
            address, uri=True, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(database)
        except BaseException:
            database.close()
            raise
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > self.version:
            raise NewerDatabaseError(f"{self.path} was written by a newer nibble: update this one")
        if version < self.version:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(
                f"BEGIN IMMEDIATE; {self.schema} PRAGMA user_version = {self.version}; COMMIT"
            )
        database.execute("PRAGMA synchronous = FULL")

    def _make_file(self) -> None:
        """SQLite gives its journals the same mode."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
