"""The file that the store is: its tables, and how it is opened.

SQLite's write-ahead log with ``synchronous=FULL``: a transaction that has returned is on the disk, and one that a
kill or a power cut interrupts never was. See sqlite.org/wal.html and sqlite.org/pragma.html#pragma_synchronous.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

from model_registry.store.store_error import StoreError

_BUSY_S = 10.0
"""How long one writer waits for another: a server and a command may write at the same time."""
_FORMATS = (
    """
CREATE TABLE models (
    id TEXT PRIMARY KEY,
    tags TEXT NOT NULL,
    notes TEXT NOT NULL,
    settings TEXT NOT NULL
) STRICT;
CREATE TABLE aliases (
    alias TEXT PRIMARY KEY,
    model TEXT NOT NULL REFERENCES models(id) ON DELETE CASCADE
) STRICT;
CREATE TABLE files (
    model TEXT PRIMARY KEY REFERENCES models(id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    file_bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sha256 TEXT,
    source TEXT NOT NULL,
    licence TEXT NOT NULL,
    quantisation TEXT NOT NULL,
    architecture TEXT NOT NULL,
    parameters INTEGER NOT NULL,
    context INTEGER NOT NULL,
    template_sha256 TEXT NOT NULL,
    capabilities TEXT NOT NULL
) STRICT;
""",
    """
ALTER TABLE files ADD COLUMN parent TEXT NOT NULL DEFAULT '';
CREATE TABLE twins (
    model TEXT PRIMARY KEY REFERENCES models(id) ON DELETE CASCADE,
    twin TEXT NOT NULL,
    record TEXT NOT NULL
) STRICT;
""",
)
"""What makes each format of the file out of the one before it, the first out of nothing. Never changed, only added to:
a file says by the number of its format which of them it has behind it."""


@contextmanager
def transaction(path: Path) -> Generator[sqlite3.Connection]:
    """One write: all of it is kept, or nothing. Makes the file and its tables where there are none.

    Raises StoreError, which names the mend.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path.parent} cannot be made ({error.strerror}): choose another data directory"
        ) from error
    with _told(path), closing(sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        # IMMEDIATE: two writers take turns from the start, instead of one failing at its first write.
        connection.execute("BEGIN IMMEDIATE")
        try:
            _make_tables(path, connection)
            yield connection
        except BaseException:
            connection.rollback()
            raise
        connection.execute("COMMIT")


@contextmanager
def reading(path: Path) -> Generator[sqlite3.Connection | None]:
    """A consistent view of what is stored; None where nothing ever was. Raises StoreError.

    A file that an older nibble wrote is brought to today's format first.
    """
    if not path.exists():
        yield None
        return
    if _is_old(path):
        with transaction(path):
            pass
    with _told(path), closing(sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA query_only=ON")
        connection.execute("BEGIN")
        # A process that was killed before its first write leaves a file without tables.
        yield connection if _version(path, connection) else None


def _is_old(path: Path) -> bool:
    with _told(path), closing(sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA query_only=ON")
        return 0 < _version(path, connection) < len(_FORMATS)


def _make_tables(path: Path, connection: sqlite3.Connection) -> None:
    version = _version(path, connection)
    if version == len(_FORMATS):
        return
    for statements in _FORMATS[version:]:
        # Not executescript, which would commit what was begun.
        for statement in statements.split(";"):
            if statement.strip():
                connection.execute(statement)
    connection.execute(f"PRAGMA user_version={len(_FORMATS)}")


def _version(path: Path, connection: sqlite3.Connection) -> int:
    """0 is a file without tables. Raises StoreError for one that a later nibble has written."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(_FORMATS):
        raise StoreError(
            f"{path} was written by a newer nibble (format {version}): use that one, or remove the file"
        )
    return version


@contextmanager
def _told(path: Path) -> Generator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"{path} cannot be used ({error}): see that its directory can be written to"
        ) from error
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{path} is damaged ({error}): move it away; aliases, notes and settings in it are lost, models are not"
        ) from error
