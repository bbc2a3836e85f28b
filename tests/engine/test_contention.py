"""How long a process has waited for others, as the kernel tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.contention import Contention


def _tell(tasks: Path, **waits_ns: int) -> None:
    for name, wait_ns in waits_ns.items():
        (tasks / name).mkdir(exist_ok=True)
        (tasks / name / "schedstat").write_text(f"1000 {wait_ns} 5\n")


def test_the_share_is_of_the_time_of_all_threads_that_compute(tmp_path: Path) -> None:
    times = iter((10.0, 12.0))
    _tell(tmp_path, one=1_000_000_000, two=0)
    contention = Contention(2, tmp_path, lambda: next(times))
    _tell(tmp_path, one=1_400_000_000, two=600_000_000)
    assert contention.share() == pytest.approx(1.0 / 4.0)


def test_nothing_is_claimed_where_nobody_counts(tmp_path: Path) -> None:
    assert Contention(2, tmp_path).share() is None
    _tell(tmp_path, one=1)
    (tmp_path / "one" / "schedstat").write_text("no figures")
    assert Contention(2, tmp_path).share() is None


def test_it_reads_what_this_kernel_tells() -> None:
    share = Contention(1).share()
    assert share is None or 0.0 <= share <= 1.0


def test_pressure_is_of_the_time_that_the_threads_wanted(tmp_path: Path) -> None:
    def tell(ran_ns: int, waited_ns: int) -> None:
        (tmp_path / "one").mkdir(exist_ok=True)
        (tmp_path / "one" / "schedstat").write_text(f"{ran_ns} {waited_ns} 5\n")

    tell(7_000_000_000, 1_000_000_000)
    contention = Contention(2, tmp_path)
    assert contention.pressure(0.0) is None, "nothing has run or waited yet"
    tell(7_300_000_000, 1_100_000_000)
    assert contention.pressure(0.1) == pytest.approx(0.25)
    assert contention.pressure(0.5) is None
    assert Contention(2, tmp_path / "none").pressure(0.0) is None
