"""The core with a disk below its memory: restarts, damage, full disks and slow reads change no answer."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import initialize, invariant, precondition, rule

from engine.step_budget import StepBudget
from tests.engine.answer_alone import Ask
from tests.engine.bench import Bench
from tests.engine.test_core import CoreMachine

_CHAT = tuple(range(100))
_STRANGERS = [(seed, *range(100, 199)) for seed in range(8)]


class DiskMachine(CoreMachine):
    """As ``CoreMachine``, while the disk is read and written at any time, and the worker ends and begins anew."""

    root: Path

    @initialize(
        slots=st.integers(1, 4),
        pool_tokens=st.sampled_from([None, 150, 300]),
        prefix_memory_bytes=st.sampled_from([300, 500, 1500]),
        disk_limit_bytes=st.sampled_from([1000, 3000, 1 << 20]),
    )
    def start(
        self, slots: int, pool_tokens: int | None, prefix_memory_bytes: int, disk_limit_bytes: int
    ) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="nibble-test-"))
        self.bench = Bench(
            slots=slots,
            budget=StepBudget(target_s=0.25, minimum=1, steady=8, maximum=16),
            pool_tokens=pool_tokens,
            prefix_memory_bytes=prefix_memory_bytes,
            disk_root=self.root,
            disk_limit_bytes=disk_limit_bytes,
        )
        self.arrived = []
        self.places, self.gone, self.trials = 2, set(), 0

    @rule(
        head=st.integers(0, 3),
        length=st.sampled_from([70, 90, 100]),
        tail=st.integers(0, 5),
        most=st.integers(1, 4),
        tenant=st.sampled_from(["", "one"]),
    )
    def submit_long(self, head: int, length: int, tail: int, most: int, tenant: str) -> None:
        """One of a few prompts that are long enough to be worth a file."""
        self._submit_long(head, length, tail, most, tenant)

    def _submit_long(self, head: int, length: int, tail: int, most: int, tenant: str = "") -> None:
        prompt = (*((head * 50 + i) % 250 for i in range(length)), tail)
        ask = Ask(prompt=prompt, max_tokens=most, tenant=tenant)
        self.arrived += self.bench.sequences[self.bench.submit(ask)]

    @rule(head=st.integers(0, 3), tail=st.integers(0, 5))
    def answer_long(self, head: int, tail: int) -> None:
        """As when all goes well: to the end, with what the threads have to do done in time."""
        self._submit_long(head, 100, tail, 4)
        self.bench.run()
        self.bench.write_disk()

    @rule()
    def read_disk(self) -> None:
        self.bench.read_disk()

    @rule()
    def write_disk(self) -> None:
        self.bench.write_disk()

    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        if files := sorted(self.root.glob("*/*.prefix")):
            file = data.draw(st.sampled_from(files))
            content = bytearray(file.read_bytes())
            content[data.draw(st.integers(0, len(content) - 1))] ^= 0x40
            file.write_bytes(content)

    @rule(head=st.integers(0, 3), tail=st.integers(0, 5))
    def restart(self, head: int, tail: int) -> None:
        """Between two prompts that are likely to have much in common."""
        self._submit_long(head, 100, tail, 4)
        self.bench.run()
        self.bench.check_answers()
        self.bench.core.save_prefixes(60.0)
        size = sum(file.stat().st_size for file in self.root.glob("*/*"))
        assert size <= self.bench.disk_limit_bytes
        past = self.bench.past + [s for sequences in self.bench.sequences.values() for s in sequences]
        self.bench = replace(
            self.bench, asks={}, sequences={}, answers={}, failed={}, cancelled=set(), past=past, now_s=0.0
        )
        self.arrived = []
        self.places, self.gone, self.trials = 2, set(), 0
        self._submit_long(head, 90, tail, 4)

    @precondition(lambda self: self.bench.core.has_work)
    @rule()
    def failing_decode(self) -> None:
        calls = iter([True])
        self.bench.backend.fail_decode = lambda: next(calls, False)
        self.bench.step()
        self.bench.backend.fail_decode = lambda: False

    def _checked_step(self) -> None:
        self.bench.step()

    @invariant()
    def admits_in_order(self) -> None:
        """Who waits for the disk is overtaken by who does not."""

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            self.bench.run()
            assert self.bench.core.waiting == 0
            self.bench.check_answers()
            self.bench.check_nothing_leaked()
        if hasattr(self, "root"):
            shutil.rmtree(self.root)


TestCoreOnDisk = DiskMachine.TestCase
TestCoreOnDisk.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def _fill(bench: Bench) -> None:
    """Compute the chat, and drive it out of slots and memory."""
    bench.submit(Ask(prompt=_CHAT, max_tokens=4))
    bench.run()
    for stranger in _STRANGERS:
        bench.submit(Ask(prompt=stranger, max_tokens=4))
        bench.run()
        bench.write_disk()


def _again(bench: Bench) -> int:
    """Cached tokens of a prompt that begins with the chat."""
    number = bench.submit(Ask(prompt=(*_CHAT, 7, 8), max_tokens=4))
    bench.run()
    bench.check_answers()
    return bench.sequences[number][0].cached


def test_what_memory_dropped_is_read_from_disk(tmp_path: Path) -> None:
    bench = Bench(slots=1, prefix_memory_bytes=500, disk_root=tmp_path)
    _fill(bench)
    assert _again(bench) == 100
    assert bench.disk is not None
    assert bench.disk.figures.read_prefixes == 1
    assert bench.core.stats.disk_prefixes_read_total == 1


def test_what_slots_and_memory_hold_at_the_end_is_there_after_it(tmp_path: Path) -> None:
    bench = Bench(slots=2, prefix_memory_bytes=100_000, disk_root=tmp_path)
    _fill(bench)
    assert list(tmp_path.glob("*/*")) == [], "memory has room for all of it"
    bench.core.save_prefixes(60.0)
    after = Bench(slots=2, prefix_memory_bytes=100_000, disk_root=tmp_path)
    assert _again(after) == 100
    assert after.sequences[1][0].cached == 100
    assert len(list(tmp_path.glob("*/*"))) == 1 + len(_STRANGERS)


def test_there_is_no_time_to_save_anything(tmp_path: Path) -> None:
    bench = Bench(slots=2, prefix_memory_bytes=100_000, disk_root=tmp_path)
    _fill(bench)
    bench.core.save_prefixes(0.0)
    assert list(tmp_path.glob("*/*")) == []


def test_requests_that_run_and_wait_at_the_end_do_not_hinder_it(tmp_path: Path) -> None:
    bench = Bench(slots=1, prefix_memory_bytes=100_000, disk_root=tmp_path)
    for _ in range(3):
        bench.submit(Ask(prompt=_CHAT, max_tokens=20, ignores_end=True))
    for _ in range(12):
        bench.step()
    bench.core.save_prefixes(60.0)
    after = Bench(slots=1, prefix_memory_bytes=100_000, disk_root=tmp_path)
    assert _again(after) == 100


def test_one_read_serves_all_who_wait_for_it_and_others_overtake_them(tmp_path: Path) -> None:
    bench = Bench(slots=4, prefix_memory_bytes=2000, disk_root=tmp_path)
    bench.submit(Ask(prompt=_CHAT, max_tokens=2))
    bench.run()
    bench.core.save_prefixes(60.0)
    bench = Bench(slots=4, prefix_memory_bytes=2000, disk_root=tmp_path)
    waiting = [bench.submit(Ask(prompt=(*_CHAT, 7, n), max_tokens=4)) for n in range(3)]
    other = bench.submit(Ask(prompt=(5, 6, 7), max_tokens=4))
    while bench.core.has_work:
        bench.step()
    assert bench.answers[other][0].finish is not None
    assert bench.core.waiting == bench.core.stats.waiting == 3
    bench.cancel(waiting[1])
    assert bench.core.waiting == 2
    assert bench.disk is not None
    assert bench.disk.pending_reads == 1
    bench.run()
    bench.check_answers()
    assert [bench.sequences[n][0].cached >= 100 for n in (waiting[0], waiting[2])] == [True, True]
    assert bench.disk.figures.read_prefixes == 1


def test_a_prefix_that_llama_refuses_is_removed_from_disk_too(tmp_path: Path) -> None:
    bench = Bench(slots=1, prefix_memory_bytes=500, disk_root=tmp_path)
    _fill(bench)
    files = set(tmp_path.glob("*/*"))
    bench.backend.fail_load = lambda: True
    assert _again(bench) == 0
    bench.read_disk()
    assert len(files - set(tmp_path.glob("*/*"))) == 1


def test_what_is_too_slow_to_be_written_is_dropped_the_oldest_first(tmp_path: Path) -> None:
    bench = Bench(slots=1, prefix_memory_bytes=500, disk_root=tmp_path)
    bench.submit(Ask(prompt=_CHAT, max_tokens=4))
    for stranger in _STRANGERS:
        bench.submit(Ask(prompt=stranger, max_tokens=4))
    bench.run()
    assert bench.disk is not None
    assert bench.disk.pending_writes == 2, "of some 400 bytes, in a queue of 1000"
    assert bench.disk.figures.dropped > 0
    bench.write_disk()
    assert _again(bench) == 0


def test_a_disk_that_fails_is_given_up_after_three_times(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(slots=1, prefix_memory_bytes=500, disk_root=tmp_path)
    shutil.rmtree(tmp_path)
    tmp_path.write_text("a file in its place")
    _fill(bench)
    assert _again(bench) == 0
    assert bench.disk is not None
    assert bench.disk.pending_writes == 0
    assert [record.message.count("none is saved any more") for record in caplog.records] == [0, 1]
