"""The two threads of the disk tier, and an end that comes while the disk hangs."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

import numpy as np

from engine.backend import Tokens
from engine.disk.directory import PrefixDirectory
from engine.disk.file_system import FileSystem
from engine.disk.tier import DiskTier, Fetched
from engine.prefix_store import StoredPrefix
from tests.engine.bench import UnsyncedFileSystem

_LIMIT_S = 30.0


class _Gated(UnsyncedFileSystem):
    """Tells when a file is to be renamed, and renames it when it may."""

    def __init__(self) -> None:
        self.is_renaming, self.may_rename = threading.Event(), threading.Event()

    def rename(self, source: Path, target: Path) -> None:
        self.is_renaming.set()
        assert self.may_rename.wait(_LIMIT_S)
        super().rename(source, target)


class _Bench:
    def __init__(self, root: Path, system: FileSystem, queue_bytes: int = 10_000) -> None:
        self.directory = PrefixDirectory(root, "key", 1 << 20, system=system)
        self.directory.open()
        self.fetched: queue.SimpleQueue[Fetched] = queue.SimpleQueue()
        self.tier = DiskTier(self.directory, deliver=self.fetched.put, queue_bytes=queue_bytes)


def _tokens(first: int) -> Tokens:
    return np.arange(first, first + 100, dtype=np.int32)


def _prefix(first: int, scope: str = "") -> StoredPrefix:
    return StoredPrefix(_tokens(first), scope, np.full(400, first % 251, dtype=np.uint8))


def test_what_is_put_is_written_and_what_is_fetched_is_delivered(tmp_path: Path) -> None:
    system = _Gated()
    bench = _Bench(tmp_path, system)
    bench.tier.start()
    bench.tier.put(_prefix(1000, "mine"))
    assert system.is_renaming.wait(_LIMIT_S)
    any_size = {"held": 0, "most_tokens": 1000, "most_bytes": 1000}
    assert bench.tier.match(_tokens(1000), "mine", **any_size) is None, "it has no name yet"
    system.may_rename.set()
    bench.tier.finish([], [], _LIMIT_S)
    assert bench.tier.match(_tokens(1000), "other", **any_size) is None
    found = bench.tier.match(_tokens(1000), "mine", **any_size)
    assert found is not None
    bench.tier.fetch(found)
    fetched = bench.fetched.get(timeout=_LIMIT_S)
    assert fetched.prefix is found
    assert fetched.state is not None
    assert set(fetched.state.tolist()) == {1000 % 251}
    assert bench.tier.figures.written_bytes > 400


def test_an_end_does_not_wait_for_a_disk_that_hangs(tmp_path: Path) -> None:
    system = _Gated()
    bench = _Bench(tmp_path, system)
    bench.tier.start()
    bench.tier.put(_prefix(1000))
    assert system.is_renaming.wait(_LIMIT_S)
    bench.tier.finish([], [_prefix(2000)], 0.01)
    assert list(tmp_path.glob("*/*.prefix")) == []
    system.may_rename.set()


def test_the_end_writes_the_newest_first_and_the_oldest_is_the_first_to_go(tmp_path: Path) -> None:
    bench = _Bench(tmp_path, UnsyncedFileSystem())
    for first in (4000, 3000):
        bench.tier.put(_prefix(first))
    slot = (_tokens(1000), "", lambda: np.zeros(400, dtype=np.uint8))
    unsavable = (_tokens(5000), "", lambda: None)
    bench.tier.finish([slot, unsavable], [_prefix(2000)], _LIMIT_S)
    files = sorted(FileSystem().files(tmp_path), key=lambda file: file.used_ns, reverse=True)
    wanted = [bench.directory.holder(_tokens(first), "") for first in (1000, 2000, 3000, 4000)]
    assert [file.path.stem for file in files] == [found and found.header.address for found in wanted]


def test_a_damaged_prefix_is_delivered_as_none(tmp_path: Path) -> None:
    bench = _Bench(tmp_path, UnsyncedFileSystem())
    bench.tier.put(_prefix(1000))
    bench.tier.write_one()
    found = bench.directory.holder(_tokens(1000), "")
    assert found is not None
    (file,) = tmp_path.glob("*/*.prefix")
    file.write_bytes(file.read_bytes()[:-1])
    bench.tier.fetch(found)
    bench.tier.read_one()
    assert bench.fetched.get(timeout=_LIMIT_S).state is None
    assert not file.exists()
    assert bench.tier.figures.read_prefixes == 0
