"""Stores that an older nibble wrote open in this one, whatever happens on the way."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from model_registry.store import database
from model_registry.store.model_store import ModelStore
from tests.model_registry.store.test_model_store import FILE, FORKS, die_at
from tests.model_registry.test_twins import twin_of


def _write_old(directory: Path) -> ModelStore:
    """What the first nibble had: format 1, by the statements that it had, and rows as it wrote them."""
    with sqlite3.connect(directory / "models.sqlite3") as connection:
        connection.executescript(database._FORMATS[0])
        connection.execute("PRAGMA user_version=1")
        connection.execute("INSERT INTO models VALUES ('a', '[\"fast\"]', 'mine', '{\"context\":4096}')")
        connection.execute("INSERT INTO aliases VALUES ('gpt-4o', 'a')")
        connection.execute(
            "INSERT INTO files VALUES ('a', '/a.gguf', 12, 34, NULL, '', '', 'Q4_0', 'llama', 5, 6, '', '[\"chat\"]')"
        )
    connection.close()
    return ModelStore.in_directory(directory)


def _check(store: ModelStore) -> None:
    record = store.record("a")
    assert (record.aliases, record.tags, record.notes) == (("gpt-4o",), ("fast",), "mine")
    assert record.settings.context == 4096
    assert record.file is not None
    assert (record.file.quantisation, record.file.parent, record.twin) == ("Q4_0", "", None)


@pytest.mark.parametrize("reads_first", [True, False])
def test_an_old_store_is_read_and_written(tmp_path: Path, reads_first: bool) -> None:
    store = _write_old(tmp_path)
    if reads_first:
        _check(store)
    store.set_file("b", FILE)
    store.set_twin("b", twin_of("a"))
    _check(store)
    assert (store.record("b").file, store.record("b").twin) == (FILE, twin_of("a"))
    store.forget("b")
    assert list(store.records()) == ["a"]


def test_a_new_store_has_the_tables_of_an_old_one_that_was_brought_up(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for store in (_write_old(tmp_path / "old"), ModelStore.in_directory(tmp_path / "new")):
        store.describe("z", notes="x")
    shapes = []
    for name in ("old", "new"):
        connection = sqlite3.connect(tmp_path / name / "models.sqlite3")
        shapes.append(connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall())
        assert connection.execute("PRAGMA user_version").fetchone() == (len(database._FORMATS),)
        connection.close()
    assert shapes[0] == shapes[1]


@FORKS
def test_a_kill_while_it_is_brought_up_leaves_the_old_or_the_new_format(tmp_path: Path) -> None:
    seen = set()
    for step in range(1, 10_000, 7):
        directory = tmp_path / str(step)
        directory.mkdir()
        store = _write_old(directory)
        pid = os.fork()
        if pid == 0:
            die_at(step, store.records)
        _, status = os.waitpid(pid, 0)
        connection = sqlite3.connect(directory / "models.sqlite3")
        seen.add((connection.execute("PRAGMA user_version").fetchone()[0], os.WIFSIGNALED(status)))
        connection.close()
        _check(store)
        if not os.WIFSIGNALED(status):
            break
    assert seen >= {(1, True), (len(database._FORMATS), False)}


def test_a_twin_that_is_forgotten_serves_for_nobody(tmp_path: Path) -> None:
    store = ModelStore.in_directory(tmp_path)
    for name in ("a", "b"):
        store.set_twin(name, twin_of(f"{name}-q4_0"))
    store.forget("a-q4_0")
    assert {record.id: record.twin for record in store.records().values()} == {
        "a": None,
        "b": twin_of("b-q4_0"),
    }


def test_forgetting_a_file_keeps_the_words(tmp_path: Path) -> None:
    store = ModelStore.in_directory(tmp_path)
    store.set_file("a", FILE)
    store.add_aliases("a", ["x"])
    store.forget_file("a")
    assert (store.record("a").file, store.record("a").aliases) == (None, ("x",))
    store.forget_file("none")
