"""Threads from a made-up cgroup tree, of version 2, version 1 and none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.threads import ThreadChoice, choose_threads, cpu_quota


def _version_2(root: Path, text: str) -> Path:
    (root / "cpu.max").write_text(text)
    return root


def _version_1(root: Path, quota: str, period: str) -> Path:
    (root / "cpu").mkdir()
    (root / "cpu/cpu.cfs_quota_us").write_text(quota)
    (root / "cpu/cpu.cfs_period_us").write_text(period)
    return root


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2.0),
        ("150000 100000\n", 1.5),
        ("50000 100000\n", 0.5),
        ("", None),
        ("nonsense\n", None),
        ("lots 100000\n", None),
        ("100000 0\n", None),
    ],
)
def test_version_2(tmp_path: Path, text: str, quota: float | None) -> None:
    assert cpu_quota(_version_2(tmp_path, text)) == quota


@pytest.mark.parametrize(
    ("quota_us", "period_us", "quota"),
    [
        ("-1\n", "100000\n", None),
        ("300000\n", "100000\n", 3.0),
        ("25000\n", "50000\n", 0.5),
        ("", "", None),
        ("100000\n", "0\n", None),
    ],
)
def test_version_1(tmp_path: Path, quota_us: str, period_us: str, quota: float | None) -> None:
    assert cpu_quota(_version_1(tmp_path, quota_us, period_us)) == quota


def test_no_cgroup(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("text", "count"), [("250000 100000", 2), ("50000 100000", 1), ("max 100000", 8), ("1600000 100000", 8)]
)
def test_the_quota_counts_where_it_is_less_than_the_cores(tmp_path: Path, text: str, count: int) -> None:
    assert choose_threads(None, _version_2(tmp_path, text)).count == count


@pytest.mark.usefixtures("eight_cores")
def test_the_reason_is_told(tmp_path: Path) -> None:
    assert "8 cores allowed" in choose_threads(None, tmp_path).reason
    assert choose_threads(3, tmp_path) == ThreadChoice(3, "as configured")
    assert "quota of 1.5" in choose_threads(None, _version_2(tmp_path, "150000 100000")).reason
