"""The ledger on disk: one SQLite file in the data directory, one row per day, key and model."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from routes.day_usage import DayUsage, UsageQuery
from server.private_database import NewerDatabaseError, PrivateDatabase

FILE_NAME: Final = "usage.sqlite3"
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS usage (
    day TEXT NOT NULL,
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    PRIMARY KEY (day, key, model)
) WITHOUT ROWID;
"""
_ADD: Final = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (day, key, model) DO UPDATE SET
    requests = requests + excluded.requests,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens
"""
_READ: Final = """
SELECT day, key, model, requests, prompt_tokens, cached_tokens, completion_tokens FROM usage
WHERE (:key IS NULL OR key = :key) AND (:model IS NULL OR model = :model)
    AND (:since IS NULL OR day >= :since) AND (:until IS NULL OR day <= :until)
ORDER BY day, key, model
"""


class UsageStoreError(Exception):
    """The ledger cannot be read or written; the message names the file and the cause."""


class UsageStore:
    """One file. Any thread or process may read it; of those that write, one at a time may use one of these.

    To open a connection takes four times what it takes to write a row, so the one that writes is kept until ``rest``.
    """

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / FILE_NAME
        self._database = PrivateDatabase(self.path, _SCHEMA, _VERSION)
        self._kept: sqlite3.Connection | None = None
        self._kept_file: tuple[int, int] | None = None
        """Device and inode of the file that it writes."""

    def add(self, rows: Iterable[DayUsage]) -> None:
        """Add all of ``rows`` to what is there, or none. Raises UsageStoreError."""
        values = [
            (
                row.day,
                row.key,
                row.model,
                row.requests,
                row.prompt_tokens,
                row.cached_tokens,
                row.completion_tokens,
            )
            for row in rows
        ]
        with self._telling():
            database = self._writer()
            try:
                database.execute("BEGIN IMMEDIATE")
                database.executemany(_ADD, values)
                database.execute("COMMIT")
            except BaseException:
                # What is not committed is rolled back with it; and whatever was wrong, the next one begins afresh.
                self.rest()
                raise

    def rest(self) -> None:
        """Hold nothing open any more. Harmless when repeated."""
        database, self._kept = self._kept, None
        if database is not None:
            database.close()

    def _writer(self) -> sqlite3.Connection:
        """The connection that is kept, unless somebody has moved the file away from under it."""
        if self._kept is not None and self._file() != self._kept_file:
            self.rest()
        if self._kept is None:
            self._kept = self._database.connect(make=True)
            self._kept_file = self._file()
        return self._kept

    def _file(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def read(self, query: UsageQuery) -> list[DayUsage]:
        """Rows by day, key and model; none where the file is missing. Raises UsageStoreError."""
        if not self.path.exists():
            return []
        names = {name: getattr(query, name) for name in query.__struct_fields__}
        with self._telling(), self._database.open(make=False) as database:
            return [
                DayUsage(
                    day=row[0],
                    key=row[1],
                    model=row[2],
                    requests=row[3],
                    prompt_tokens=row[4],
                    cached_tokens=row[5],
                    completion_tokens=row[6],
                )
                for row in database.execute(_READ, names)
            ]

    @contextmanager
    def _telling(self) -> Generator[None]:
        try:
            yield
        except NewerDatabaseError as error:
            raise UsageStoreError(str(error)) from error
        except (sqlite3.Error, OSError) as error:
            raise UsageStoreError(f"the usage in {self.path} cannot be used: {error}") from error
