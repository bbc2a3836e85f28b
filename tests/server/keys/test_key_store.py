from __future__ import annotations

import re
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server.keys.api_key import KeyLimits, digest_of
from server.keys.key_store import KeyStore, KeyStoreError


def create(store: KeyStore, name: str) -> str:
    return store.create(name, scopes=frozenset({"inference"}))


def test_a_key_is_kept_as_its_hash_and_prefix(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "data")
    assert store.stored() == []
    assert not store.path.exists(), "looking creates nothing"
    limits = KeyLimits(requests_per_minute=3, concurrent=2, queued=0)
    secret = store.create(
        "alice", scopes=frozenset({"inference", "admin"}), models=frozenset({"m"}), limits=limits
    )
    assert re.fullmatch(r"sk-nibble-[A-Za-z0-9_-]{43}", secret), "256 bits"
    (stored,) = store.stored()
    assert (stored.key.name, stored.key.digest) == ("alice", digest_of(secret))
    assert stored.key.scopes == {"inference", "admin"}
    assert stored.key.models == frozenset({"m"})
    assert (stored.key.limits, stored.revoked_s) == (limits, None)
    assert secret.startswith(stored.key.prefix)
    for file in store.path.parent.iterdir():
        assert secret.encode() not in file.read_bytes()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_name_is_free_again_once_its_key_is_revoked(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    first = create(store, "alice")
    with pytest.raises(KeyStoreError, match="called 'alice' already"):
        create(store, "alice")
    assert store.revoke(first[:16]).key.name == "alice", "by what the list shows of it"
    second = create(store, "alice")
    assert first != second
    assert [item.revoked_s is None for item in store.stored()] == [False, True]
    store.revoke("alice")
    with pytest.raises(KeyStoreError, match="no key in force is called 'alice'"):
        store.revoke("alice")


def test_every_change_changes_the_stamp(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    stamps = [store.stamp()]
    for change in (lambda: create(store, "a"), lambda: create(store, "b"), lambda: store.revoke("a")):
        change()
        stamps.append(store.stamp())
        store.stored()
    assert len(set(stamps)) == 4


def test_many_at_once_make_one_key_of_a_name(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)

    def attempt(number: int) -> bool:
        try:
            create(store, f"name-{number % 4}")
        except KeyStoreError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(16))) == 4
    assert len(store.stored()) == 4


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    store = KeyStore(tmp_path)
    store.path.write_bytes(content)
    for attempt in (store.stored, lambda: create(store, "a"), lambda: store.revoke("a")):
        with pytest.raises(KeyStoreError, match=r"keys\.sqlite3"):
            attempt()
    assert store.path.read_bytes() == content


def test_a_file_that_was_begun_and_no_more_is_empty(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    store.path.touch()
    assert store.stored() == []
    create(store, "a")
    assert len(store.stored()) == 1


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    create(store, "a")
    with sqlite3.connect(store.path) as database:
        database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(KeyStoreError, match="newer nibble"):
        store.stored()
