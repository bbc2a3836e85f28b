"""The store: records of models in one SQLite file, old or new whatever happens, never something between."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.config import Capability
from model_registry.amendment import Amendment
from model_registry.model_adapter import adapter_name
from model_registry.model_settings import ModelSettings
from model_registry.store.database import reading, transaction
from model_registry.store.model_record import FileRecord, ModelRecord
from model_registry.store.store_error import NameRefused, StoreError
from model_registry.store.twin_record import TwinRecord

FILE_NAME = "models.sqlite3"
ALIAS = re.compile(r"[^\s\x00-\x1f\x7f]{1,200}")
_Value = TypeVar("_Value")
_FILE_COLUMNS = FileRecord.__struct_fields__


class ModelStore:
    """Opens its file for each call, so that any thread and any process may call. Every call is one transaction."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def in_directory(cls, data_dir: Path) -> ModelStore:
        return cls(data_dir / FILE_NAME)

    @property
    def signature(self) -> tuple[int, ...]:
        """Changes whenever something was written; cheap enough to be asked all the time."""
        found: list[int] = []
        for path in (self._path, self._path.with_name(f"{self._path.name}-wal")):
            try:
                stat = path.stat()
            except OSError:
                continue
            found += (stat.st_mtime_ns, stat.st_size)
        return tuple(found)

    def records(self) -> Mapping[str, ModelRecord]:
        """Every model that something is known of, by id. Raises StoreError."""
        with reading(self._path) as connection:
            if connection is None:
                return {}
            aliases: dict[str, list[str]] = {}
            for alias, model in connection.execute("SELECT alias, model FROM aliases ORDER BY alias"):
                aliases.setdefault(model, []).append(alias)
            twins = {
                model: _decode(record, TwinRecord, self._path)
                for model, record in connection.execute("SELECT model, record FROM twins")
            }
            files = {
                row[0]: _file_record(row[1:])
                for row in connection.execute(f"SELECT model, {', '.join(_FILE_COLUMNS)} FROM files")
            }
            return {
                model_id: ModelRecord(
                    id=model_id,
                    aliases=tuple(aliases.get(model_id, ())),
                    tags=_decode(tags, tuple[str, ...], self._path),
                    notes=notes,
                    settings=_decode(settings, ModelSettings, self._path),
                    file=files.get(model_id),
                    twin=twins.get(model_id),
                )
                for model_id, tags, notes, settings in connection.execute(
                    "SELECT id, tags, notes, settings FROM models ORDER BY id"
                )
            }

    def record(self, model_id: str) -> ModelRecord:
        """What is known of one model, which may be nothing. Raises StoreError."""
        return self.records().get(model_id) or ModelRecord(id=model_id)

    def add_aliases(self, model_id: str, aliases: Iterable[str], *, moves: bool = False) -> None:
        """Let requests call the model by these names too.

        One of another model moves to this one with ``moves``, and raises NameRefused without.
        """
        aliases = _checked(aliases)
        with transaction(self._path) as connection:
            _ensure(connection, model_id)
            for alias in () if moves else aliases:
                owner = connection.execute("SELECT model FROM aliases WHERE alias = ?", (alias,)).fetchone()
                if owner is not None and owner[0] != model_id:
                    raise NameRefused(f"'{alias}' is an alias of '{owner[0]}': take it from that first")
            connection.executemany(
                "INSERT INTO aliases (alias, model) VALUES (?, ?) "
                "ON CONFLICT (alias) DO UPDATE SET model = excluded.model",
                [(alias, model_id) for alias in aliases],
            )

    def remove_aliases(self, aliases: Iterable[str]) -> None:
        """Raises StoreError if one of them is none, and then removes none."""
        with transaction(self._path) as connection:
            for alias in aliases:
                if not connection.execute("DELETE FROM aliases WHERE alias = ?", (alias,)).rowcount:
                    raise StoreError(f"'{alias}' is no alias")

    def describe(self, model_id: str, *, tags: Iterable[str] | None = None, notes: str | None = None) -> None:
        """Replace what is given; None leaves it as it is."""
        with transaction(self._path) as connection:
            _ensure(connection, model_id)
            if tags is not None:
                text = msgspec.json.encode(sorted(set(tags))).decode()
                connection.execute("UPDATE models SET tags = ? WHERE id = ?", (text, model_id))
            if notes is not None:
                connection.execute("UPDATE models SET notes = ? WHERE id = ?", (notes, model_id))

    def amend(self, model_id: str, amendment: Amendment) -> None:
        """Replace what is given of all this at once. Raises NameRefused for an alias of another model."""
        aliases = None if amendment.aliases is None else _checked(amendment.aliases)
        with transaction(self._path) as connection:
            _ensure(connection, model_id)
            if aliases is not None:
                connection.execute("DELETE FROM aliases WHERE model = ?", (model_id,))
                for alias in dict.fromkeys(aliases):
                    if connection.execute("SELECT 1 FROM aliases WHERE alias = ?", (alias,)).fetchone():
                        raise NameRefused(f"'{alias}' is an alias of another model: take it from that first")
                    connection.execute("INSERT INTO aliases (alias, model) VALUES (?, ?)", (alias, model_id))
            values: dict[str, object] = {"notes": amendment.notes}
            if amendment.tags is not None:
                values["tags"] = msgspec.json.encode(sorted(set(amendment.tags))).decode()
            if amendment.settings is not None:
                values["settings"] = msgspec.json.encode(amendment.settings).decode()
            for column, value in values.items():
                if value is not None:
                    connection.execute(f"UPDATE models SET {column} = ? WHERE id = ?", (value, model_id))

    def set_settings(self, model_id: str, settings: ModelSettings) -> None:
        """Replace all of the model's settings."""
        text = msgspec.json.encode(settings).decode()
        with transaction(self._path) as connection:
            _ensure(connection, model_id)
            connection.execute("UPDATE models SET settings = ? WHERE id = ?", (text, model_id))

    def set_file(self, model_id: str, file: FileRecord) -> None:
        """Replace what is known of the model's file."""
        values = [getattr(file, name) for name in _FILE_COLUMNS[:-1]]
        values.append(msgspec.json.encode(file.capabilities).decode())
        marks = ", ".join("?" * (len(values) + 1))
        with transaction(self._path) as connection:
            _ensure(connection, model_id)
            connection.execute(
                f"INSERT OR REPLACE INTO files (model, {', '.join(_FILE_COLUMNS)}) VALUES ({marks})",
                (model_id, *values),
            )

    def forget_file(self, model_id: str) -> None:
        """Remove what is known of the model's file alone. Harmless where nothing is."""
        with transaction(self._path) as connection:
            connection.execute("DELETE FROM files WHERE model = ?", (model_id,))

    def set_twin(self, model_id: str, twin: TwinRecord | None) -> None:
        """Let ``twin`` serve the model's requests; None lets the model serve them itself."""
        with transaction(self._path) as connection:
            if twin is None:
                connection.execute("DELETE FROM twins WHERE model = ?", (model_id,))
                return
            _ensure(connection, model_id)
            connection.execute(
                "INSERT OR REPLACE INTO twins (model, twin, record) VALUES (?, ?, ?)",
                (model_id, twin.id, msgspec.json.encode(twin).decode()),
            )

    def forget(self, model_id: str) -> None:
        """Remove all that is known of the model, its aliases too, and that it serves for another. Harmless twice."""
        with transaction(self._path) as connection:
            connection.execute("DELETE FROM twins WHERE twin = ?", (model_id,))
            connection.execute("DELETE FROM models WHERE id = ?", (model_id,))

    def forget_adapter(self, model_id: str, name: str) -> None:
        """Remove all that is known of the model with that adapter, and the adapter from the model's settings, which
        would name what is gone. Harmless twice.
        """
        with transaction(self._path) as connection:
            connection.execute("DELETE FROM models WHERE id = ?", (f"{model_id}:{name}",))
            row = connection.execute("SELECT settings FROM models WHERE id = ?", (model_id,)).fetchone()
            if row is None:
                return
            settings = _decode(row[0], ModelSettings, self._path)
            entries = settings.adapters or ()
            left = tuple(entry for entry in entries if adapter_name(entry) != name)
            if left != entries:
                settings = msgspec.structs.replace(settings, adapters=left or None)
                text = msgspec.json.encode(settings).decode()
                connection.execute("UPDATE models SET settings = ? WHERE id = ?", (text, model_id))


def _checked(aliases: Iterable[str]) -> tuple[str, ...]:
    aliases = tuple(aliases)
    for alias in aliases:
        if not ALIAS.fullmatch(alias):
            raise NameRefused(f"'{alias}' cannot be a name: use up to 200 characters without spaces")
    return aliases


def _ensure(connection: sqlite3.Connection, model_id: str) -> None:
    connection.execute(
        "INSERT INTO models (id, tags, notes, settings) VALUES (?, '[]', '', '{}') ON CONFLICT DO NOTHING",
        (model_id,),
    )


def _file_record(row: tuple[object, ...]) -> FileRecord:
    values = dict(zip(_FILE_COLUMNS, row, strict=True))
    values["capabilities"] = msgspec.json.decode(str(row[-1]), type=tuple[Capability, ...])
    return FileRecord(**values)  # type: ignore[arg-type]  # STRICT tables hold the columns' types


def _decode(text: str, kind: type[_Value], path: Path) -> _Value:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StoreError(f"{path} holds what this nibble cannot read ({error}): set it anew") from error
