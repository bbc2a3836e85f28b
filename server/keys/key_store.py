"""The keys on disk: one SQLite file in the data directory, written by ``nibble key`` and read by the server."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from routes.caller import Scope
from server.keys.api_key import NO_LIMITS, ApiKey, KeyLimits, digest_of, new_secret, prefix_of
from server.private_database import NewerDatabaseError, PrivateDatabase

FILE_NAME: Final = "keys.sqlite3"
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS keys (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    models TEXT NOT NULL,
    limits TEXT NOT NULL,
    created_s INTEGER NOT NULL DEFAULT (unixepoch()),
    revoked_s INTEGER
);
CREATE UNIQUE INDEX IF NOT EXISTS keys_in_force ON keys (name) WHERE revoked_s IS NULL;
"""


class KeyStoreError(Exception):
    """The keys cannot be read or written; the message names the file and the cause."""


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key and its history."""

    key: ApiKey
    created_s: int
    """Unix seconds."""
    revoked_s: int | None = None


class KeyStore:
    """One file; a connection per call, so that any thread or process may use it. Holds no secret."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / FILE_NAME
        self._database = PrivateDatabase(self.path, _SCHEMA, _VERSION)

    def create(
        self,
        name: str,
        *,
        scopes: frozenset[Scope],
        models: frozenset[str] | None = None,
        limits: KeyLimits = NO_LIMITS,
    ) -> str:
        """Make a key, and return its secret: the only time that anybody sees it. Raises KeyStoreError."""
        secret = new_secret()
        row = (
            name,
            prefix_of(secret),
            digest_of(secret),
            " ".join(sorted(scopes)),
            msgspec.json.encode(None if models is None else sorted(models)).decode(),
            msgspec.json.encode(limits).decode(),
        )
        with self._open(write=True) as database:
            try:
                database.execute(
                    "INSERT INTO keys (name, prefix, digest, scopes, models, limits) VALUES (?, ?, ?, ?, ?, ?)",
                    row,
                )
            except sqlite3.IntegrityError:
                raise KeyStoreError(
                    f"there is a key called '{name}' already: revoke it first, or choose another name"
                ) from None
        return secret

    def revoke(self, name_or_prefix: str) -> StoredKey:
        """End the key of that name, or that begins so. Raises KeyStoreError if there is none, or several."""
        with self._open(write=True) as database:
            found = [
                (number, stored)
                for number, stored in _read(database)
                if stored.revoked_s is None and name_or_prefix in (stored.key.name, stored.key.prefix)
            ]
            if len(found) != 1:
                several = "no key in force is" if not found else "several keys are"
                raise KeyStoreError(f"{several} called '{name_or_prefix}': see 'nibble key list'")
            number, stored = found[0]
            database.execute("UPDATE keys SET revoked_s = unixepoch() WHERE id = ?", (number,))
        return stored

    def stored(self) -> list[StoredKey]:
        """Every key there ever was, oldest first; none where the file is missing. Raises KeyStoreError."""
        if not self.path.exists():
            return []
        with self._open(write=False) as database:
            return [stored for _, stored in _read(database)]

    def stamp(self) -> tuple[int, ...]:
        """What changes when the keys do: sizes and times of the file and of its journal."""
        found: list[int] = []
        for path in (self.path, self.path.with_name(f"{FILE_NAME}-wal")):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                found += (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        return tuple(found)

    @contextmanager
    def _open(self, *, write: bool) -> Generator[sqlite3.Connection]:
        """A connection inside a transaction. Raises KeyStoreError for all that SQLite or the disk may say."""
        try:
            with self._database.open(make=write) as database:
                database.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield database
                except BaseException:
                    database.execute("ROLLBACK")
                    raise
                database.execute("COMMIT")
        except NewerDatabaseError as error:
            raise KeyStoreError(str(error)) from error
        except (sqlite3.Error, OSError, msgspec.DecodeError) as error:
            raise KeyStoreError(f"the keys in {self.path} cannot be used: {error}") from error


def _read(database: sqlite3.Connection) -> list[tuple[int, StoredKey]]:
    rows = database.execute(
        "SELECT id, name, prefix, digest, scopes, models, limits, created_s, revoked_s FROM keys ORDER BY id"
    )
    return [(row[0], _stored(*row[1:])) for row in rows]


def _stored(
    name: str,
    prefix: str,
    digest: bytes,
    scopes: str,
    models: str,
    limits: str,
    created_s: int,
    revoked_s: int | None,
) -> StoredKey:
    key = ApiKey(
        name=name,
        prefix=prefix,
        digest=digest,
        scopes=msgspec.convert(scopes.split(), frozenset[Scope]),
        models=msgspec.json.decode(models, type=frozenset[str] | None),
        limits=msgspec.json.decode(limits, type=KeyLimits),
    )
    return StoredKey(key=key, created_s=created_s, revoked_s=revoked_s)
