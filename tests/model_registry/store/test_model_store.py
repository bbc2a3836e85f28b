"""The store against real kills and real write errors: what is read is old or new, never between."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from model_registry.model_settings import ModelSettings
from model_registry.store.model_record import FileRecord, ModelRecord
from model_registry.store.model_store import ModelStore
from model_registry.store.store_error import StoreError

FILE = FileRecord(
    path="/models/a.gguf",
    file_bytes=12,
    mtime_ns=34,
    sha256="ab" * 32,
    source="hf:owner/repo",
    licence="apache-2.0",
    quantisation="Q4_K_M",
    architecture="llama",
    parameters=135_000_000,
    context=8192,
    template_sha256="cd" * 32,
    capabilities=("chat", "completion"),
)


FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
"""The children touch SQLite alone, which no thread of the parent is in."""


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore.in_directory(tmp_path)


def test_what_is_kept_comes_back(store: ModelStore) -> None:
    assert store.records() == {}
    settings = ModelSettings(context=4096, cache_type="q8_0")
    store.set_file("a", FILE)
    store.add_aliases("a", ["gpt-4o-mini", "default"])
    store.describe("a", tags=["small", "fast", "small"], notes="mine")
    store.set_settings("a", settings)
    whole = ModelRecord(
        id="a",
        aliases=("default", "gpt-4o-mini"),
        tags=("fast", "small"),
        notes="mine",
        settings=settings,
        file=FILE,
    )
    assert store.records() == {"a": whole}
    assert store.record("other") == ModelRecord(id="other")
    store.describe("a", notes="")
    assert store.record("a").tags == ("fast", "small")
    store.forget("a")
    assert store.records() == {}


def test_an_alias_means_one_model(store: ModelStore) -> None:
    store.add_aliases("a", ["x", "y"])
    with pytest.raises(StoreError, match="'x' is an alias of 'a'"):
        store.add_aliases("b", ["x"])
    store.add_aliases("b", ["x"], moves=True)
    assert (store.record("a").aliases, store.record("b").aliases) == (("y",), ("x",))
    with pytest.raises(StoreError, match="'z' is no alias"):
        store.remove_aliases(["y", "z"])
    assert store.record("a").aliases == ("y",), "a part of it was done"
    store.remove_aliases(["y"])
    assert store.record("a").aliases == ()


@pytest.mark.parametrize("alias", ["", "two words", "new\nline", "x" * 201])
def test_what_cannot_be_an_alias(store: ModelStore, alias: str) -> None:
    with pytest.raises(StoreError, match="cannot be a name"):
        store.add_aliases("a", [alias])


def test_the_signature_changes_with_what_is_stored(store: ModelStore) -> None:
    before = store.signature
    store.describe("a", notes="x")
    middle = store.signature
    assert before != middle == store.signature
    store.describe("a", notes="y")
    assert store.signature != middle


def test_a_damaged_file_is_told_and_a_newer_one_left_alone(tmp_path: Path) -> None:
    store = ModelStore.in_directory(tmp_path)
    path = tmp_path / "models.sqlite3"
    path.write_bytes(b"no database at all, and longer than a header" * 10)
    with pytest.raises(StoreError, match=r"is damaged .* move it away"):
        store.records()
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StoreError, match="written by a newer nibble"):
        store.describe("a", notes="x")


def test_settings_of_a_later_nibble_are_told(tmp_path: Path) -> None:
    store = ModelStore.in_directory(tmp_path)
    store.describe("a", notes="x")
    with sqlite3.connect(tmp_path / "models.sqlite3") as connection:
        connection.execute("""UPDATE models SET settings = '{"colour": 1}'""")
    connection.close()
    with pytest.raises(StoreError, match=r"cannot read .*colour"):
        store.records()


def test_many_writers_take_turns(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from model_registry.store.model_store import ModelStore\n"
        "for i in range(8): ModelStore(Path(sys.argv[1])).add_aliases(sys.argv[2], [f'{sys.argv[2]}{i}'])"
    )
    path = str(tmp_path / "s.sqlite3")
    writers = [subprocess.Popen([sys.executable, "-c", program, path, name]) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert {name: len(record.aliases) for name, record in ModelStore(Path(path)).records().items()} == {
        "a": 8,
        "b": 8,
        "c": 8,
    }


ALIASES = [f"{'name' * 10}{number}" for number in range(200)]
"""Enough of them that one write changes many pages."""


def move(store: ModelStore, model_id: str) -> None:
    """One write of many rows: all the aliases come to mean this model."""
    store.add_aliases(model_id, ALIASES, moves=True)


def _old(tmp_path: Path, name: str) -> ModelStore:
    store = ModelStore(tmp_path / f"{name}.sqlite3")
    move(store, "old")
    return store


def _check_whole(store: ModelStore) -> str:
    """Which model has the aliases, of which each has all or none."""
    owners = [record.id for record in store.records().values() if record.aliases]
    assert len(owners) == 1, "a part of a write was kept"
    assert len(store.record(owners[0]).aliases) == len(ALIASES)
    connection = sqlite3.connect(store._path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    return owners[0]


@FORKS
def test_a_kill_at_any_step_of_a_write_leaves_old_or_new(tmp_path: Path) -> None:
    """SQLite calls back every few of its instructions: the process kills itself at the Nth of these."""
    seen = set()
    store = _old(tmp_path, "kill")
    for step in range(1, 100_000, 151):
        pid = os.fork()
        if pid == 0:
            die_at(step, lambda: move(store, "new"))
        _, status = os.waitpid(pid, 0)
        outcome = _check_whole(store)
        seen.add((outcome, os.WIFSIGNALED(status)))
        if not os.WIFSIGNALED(status):
            break
    assert ("old", True) in seen, "no kill came before the commit"
    assert ("new", False) in seen, "no write lived to its end: more steps are needed"


def die_at(step: int, work: Callable[[], object]) -> NoReturn:
    """In a child: do the ``work``, and be killed at the Nth few instructions of SQLite's."""
    left = step
    connect = sqlite3.connect

    def count() -> int:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    def connected(*args: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)  # type: ignore[call-overload]
        connection.set_progress_handler(count, 2)
        return connection

    sqlite3.connect = connected  # type: ignore[assignment]  # of this process alone, which is about to end
    try:
        work()
    finally:
        os._exit(0)


def test_a_kill_from_outside_leaves_old_or_new(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from model_registry.store.model_store import ModelStore\n"
        "from tests.model_registry.store.test_model_store import move\n"
        "store = ModelStore(Path(sys.argv[1])); print('go', flush=True)\n"
        "while True: move(store, 'new'); move(store, 'old')"
    )
    store = _old(tmp_path, "outside")
    for writes in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(store._path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        seen, signature = 0, store.signature
        while seen < writes:  # a different moment each time, told by the file and not by a clock
            if (now := store.signature) != signature:
                seen, signature = seen + 1, now
        process.kill()
        process.wait()
        process.stdout.close()
        _check_whole(store)


@FORKS
def test_a_disk_that_refuses_the_nth_byte_leaves_old_or_new(tmp_path: Path) -> None:
    """The kernel refuses to let a file grow past a limit, as a full disk does, at every page in turn."""
    seen = set()
    store = _old(tmp_path, "full")
    for limit in range(0, 400_000, 2048):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            try:
                move(store, "new")
            except StoreError:
                os._exit(1)
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        outcome = _check_whole(store)
        seen.add((outcome, os.waitstatus_to_exitcode(status)))
        if outcome == "new":
            break
    assert seen >= {("old", 1), ("new", 0)}
    assert ("new", 1) not in seen
    assert ("old", 0) not in seen, "a write that failed said that it had not"
