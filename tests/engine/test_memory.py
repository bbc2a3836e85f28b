"""Memory from a made-up cgroup tree and a made-up /proc/meminfo."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.memory import available_bytes

MIB = 2**20


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text(f"MemTotal:       {8 * 1024 * 1024} kB\nMemAvailable:   {4 * 1024 * 1024} kB\n")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "cgroup"
    path.mkdir()
    return path


def _write(root: Path, **files: str) -> None:
    for name, text in files.items():
        (root / name.replace("__", "/").replace("_dot_", ".")).write_text(text)


def test_without_a_cgroup_the_machine_says_it(root: Path, meminfo: Path) -> None:
    assert available_bytes(root, meminfo) == 4096 * MIB


def test_version_2(root: Path, meminfo: Path) -> None:
    _write(root, memory_dot_max=f"{1000 * MIB}\n", memory_dot_current=f"{400 * MIB}\n")
    assert available_bytes(root, meminfo) == 600 * MIB


def test_version_2_without_a_limit(root: Path, meminfo: Path) -> None:
    _write(root, memory_dot_max="max\n", memory_dot_current=f"{400 * MIB}\n")
    assert available_bytes(root, meminfo) == 4096 * MIB


def test_files_that_were_read_are_no_memory_in_use(root: Path, meminfo: Path) -> None:
    """The page cache of a model file is given up when memory is asked for; counted, each load would leave less."""
    _write(
        root,
        memory_dot_max=f"{1000 * MIB}\n",
        memory_dot_current=f"{900 * MIB}\n",
        memory_dot_stat=f"anon {100 * MIB}\ninactive_file {600 * MIB}\nactive_file {200 * MIB}\n",
    )
    assert available_bytes(root, meminfo) == 700 * MIB


def test_version_1(root: Path, meminfo: Path) -> None:
    (root / "memory").mkdir()
    (root / "memory/memory.limit_in_bytes").write_text(f"{1000 * MIB}\n")
    (root / "memory/memory.usage_in_bytes").write_text(f"{900 * MIB}\n")
    assert available_bytes(root, meminfo) == 100 * MIB
    (root / "memory/memory.stat").write_text(f"inactive_file 0\ntotal_inactive_file {50 * MIB}\n")
    assert available_bytes(root, meminfo) == 150 * MIB


def test_version_1_without_a_limit(root: Path, meminfo: Path) -> None:
    (root / "memory").mkdir()
    (root / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    (root / "memory/memory.usage_in_bytes").write_text(f"{900 * MIB}\n")
    assert available_bytes(root, meminfo) == 4096 * MIB


def test_use_past_the_limit_leaves_nothing(root: Path, meminfo: Path) -> None:
    _write(root, memory_dot_max=f"{100 * MIB}\n", memory_dot_current=f"{101 * MIB}\n")
    assert available_bytes(root, meminfo) == 0


def test_a_machine_without_proc_has_some(root: Path, tmp_path: Path) -> None:
    assert available_bytes(root, tmp_path / "nowhere") > 0
