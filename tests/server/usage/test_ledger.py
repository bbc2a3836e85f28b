from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.errors import ModelUnavailable
from generation.events import Usage
from routes.day_usage import DayUsage, UsageQuery
from server.usage.ledger import Ledger
from server.usage.usage_store import UsageStore, UsageStoreError

ALL = UsageQuery()
NOON = 1_767_268_800.0
"""2026-01-01, 12:00 UTC."""
ONE = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=3)


def row(**changes: str | int) -> DayUsage:
    values: dict[str, str | int] = {
        "day": "2026-01-01",
        "key": "alice",
        "model": "m",
        "requests": 1,
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "completion_tokens": 3,
    }
    return DayUsage(**(values | changes))  # type: ignore[arg-type]


async def test_entries_add_up_and_survive(tmp_path: Path) -> None:
    clock = [NOON]
    ledger = Ledger(UsageStore(tmp_path), wall=lambda: clock[0])
    ledger.enter("alice", "m", ONE)
    ledger.enter("alice", "m", ONE)
    ledger.enter("bob", "m", ONE)
    clock[0] += 12 * 3600
    ledger.enter("alice", "m", ONE)
    await ledger.close()
    again = Ledger(UsageStore(tmp_path), wall=lambda: NOON)
    again.enter("alice", "m", ONE)
    assert list(await again.usage(ALL)) == [
        row(requests=3, prompt_tokens=30, cached_tokens=12, completion_tokens=9),
        row(key="bob"),
        row(day="2026-01-02"),
    ]
    assert list(await again.usage(UsageQuery(key="bob"))) == [row(key="bob")]
    assert list(await again.usage(UsageQuery(since="2026-01-02", model="m"))) == [row(day="2026-01-02")]
    assert len(await again.usage(UsageQuery(until="2026-01-01"))) == 2
    assert list(await again.usage(UsageQuery(model="'; DROP TABLE usage; --"))) == []
    await again.close()


async def test_entries_are_written_without_being_asked_for(tmp_path: Path) -> None:
    store = UsageStore(tmp_path)
    written = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Telling(UsageStore):
        def add(self, rows: Sequence[DayUsage]) -> None:  # type: ignore[override]
            super().add(rows)
            loop.call_soon_threadsafe(written.set)

    ledger = Ledger(Telling(tmp_path), gather_s=0.001, wall=lambda: NOON)
    ledger.enter("alice", "m", ONE)
    await asyncio.wait_for(written.wait(), 30)
    assert store.read(ALL) == [row()]
    await ledger.close()
    assert store.read(ALL) == [row()], "written once"


class FailingStore:
    """Fails the first so many times; may be held up by a gate."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.gate: threading.Event | None = None
        self.begun = threading.Event()
        self.rows: list[DayUsage] = []

    def add(self, rows: Sequence[DayUsage]) -> None:
        self.begun.set()
        if self.gate is not None:
            self.gate.wait(30)
        if self.failures:
            self.failures -= 1
            raise UsageStoreError("no space left on device")
        self.rows += rows

    def rest(self) -> None: ...

    def read(self, query: UsageQuery) -> list[DayUsage]:
        return list(self.rows)


@pytest.mark.parametrize("failures", range(4))
async def test_whatever_fails_nothing_is_lost_or_counted_twice(failures: int) -> None:
    store = FailingStore(failures)
    ledger = Ledger(store, gather_s=3600, wall=lambda: NOON)
    for _ in range(failures):
        ledger.enter("alice", "m", ONE)
        with pytest.raises(ModelUnavailable, match="no space left"):
            await ledger.usage(ALL)
    ledger.enter("alice", "m", ONE)
    n = failures + 1
    told = await ledger.usage(ALL)
    assert list(told) == [row(requests=n, prompt_tokens=10 * n, cached_tokens=4 * n, completion_tokens=3 * n)]
    await ledger.close()
    assert len(store.rows) == 1


async def test_who_asks_and_leaves_loses_nothing() -> None:
    store = FailingStore(0)
    store.gate = threading.Event()
    ledger = Ledger(store, gather_s=3600, wall=lambda: NOON)
    ledger.enter("alice", "m", ONE)
    asking = asyncio.create_task(ledger.usage(ALL))
    await asyncio.to_thread(store.begun.wait, 30)
    asking.cancel()
    ledger.enter("alice", "m", ONE)
    store.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await ledger.close()
    assert store.rows == [row(), row()]


def _names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def test_an_idle_ledger_holds_nothing_open_and_goes_on_afterwards(tmp_path: Path) -> None:
    resting = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Telling(UsageStore):
        def rest(self) -> None:
            super().rest()
            loop.call_soon_threadsafe(resting.set)

    ledger = Ledger(Telling(tmp_path), gather_s=0.001, rest_s=0.001, wall=lambda: NOON)
    for _ in range(2):
        resting.clear()
        ledger.enter("alice", "m", ONE)
        await asyncio.wait_for(resting.wait(), 30)
        # SQLite takes its journal away when the last connection is closed.
        assert _names(tmp_path) == ["usage.sqlite3"]
    await ledger.close()
    assert UsageStore(tmp_path).read(ALL) == [
        row(requests=2, prompt_tokens=20, cached_tokens=8, completion_tokens=6)
    ]


def test_what_another_reads_is_there_while_the_writer_goes_on(tmp_path: Path) -> None:
    store, reader = UsageStore(tmp_path), UsageStore(tmp_path)
    for requests in (1, 2, 3):
        store.add([row(prompt_tokens=0, cached_tokens=0, completion_tokens=0)])
        (told,) = reader.read(ALL)
        assert told.requests == requests
    store.rest()


def test_a_file_that_is_moved_away_is_not_written_on(tmp_path: Path) -> None:
    store = UsageStore(tmp_path)
    store.add([row()])
    for path in sorted(tmp_path.iterdir()):
        path.rename(path.with_name(f"old-{path.name}"))
    store.add([row(key="bob")])
    assert store.read(ALL) == [row(key="bob")]
    store.rest()


def test_a_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    store = UsageStore(tmp_path)
    store.add([row()])
    broken = row(key="bob", requests=2**70)
    with pytest.raises((UsageStoreError, OverflowError)):
        store.add([row(), broken])
    assert store.read(ALL) == [row()]
    store.add([row()])
    assert store.read(ALL) == [row(requests=2, prompt_tokens=20, cached_tokens=8, completion_tokens=6)]
    store.rest()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    store = UsageStore(tmp_path)
    store.path.write_bytes(b"garbage" * 1000)
    with pytest.raises(UsageStoreError, match=r"usage\.sqlite3"):
        store.read(ALL)
