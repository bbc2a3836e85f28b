"""Memory from a made-up cgroup tree and a made-up /proc."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.memory import available_bytes, available_or_guessed_bytes, limit_bytes

_FREE = 8_000_000 * 1024


class Machine:
    """8 GB free, and the cgroups that a test writes."""

    def __init__(self, root: Path, own: str = "0::/a") -> None:
        self.root, self.meminfo, self.own = root / "cgroup", root / "meminfo", root / "own"
        self.root.mkdir()
        self.meminfo.write_text("MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n")
        self.own.write_text(own + "\n")

    def group(self, name: str, limit: str, used: int, inactive: int | None = None, active: int = 0) -> None:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        if inactive is not None:
            (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\nactive_file {active}\n")

    def group_v1(self, name: str, limit: int, used: int, stat: str = "") -> None:
        folder = self.root / "memory" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(stat)

    @property
    def available(self) -> int | None:
        return available_bytes(self.root, self.meminfo, self.own)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_a_cgroup_the_machine_says_it(machine: Machine) -> None:
    assert machine.available == _FREE


def test_without_a_limit_the_machine_says_it(machine: Machine) -> None:
    machine.group("a", "max", 1000)
    assert machine.available == _FREE


def test_the_tightest_group_on_the_way_up_counts(tmp_path: Path) -> None:
    machine = Machine(tmp_path, own="0::/a/b")
    machine.group("a/b", "4000000000", 1_000_000_000, 500)
    machine.group("a", "2000000000", 1_500_000_000, 250)
    assert machine.available == 500_000_250


def test_a_path_of_the_host_inside_a_container_falls_back_to_the_mount(tmp_path: Path) -> None:
    machine = Machine(tmp_path, own="0::/docker/0123")
    machine.group(".", "1000", 400, 100)
    assert machine.available == 700


def test_a_path_may_hold_colons(tmp_path: Path) -> None:
    machine = Machine(tmp_path, own="0::/a:b")
    machine.group("a:b", "1000", 400)
    assert machine.available == 600


def test_files_that_were_read_are_no_memory_in_use(machine: Machine) -> None:
    """The page cache of a model file is given up when memory is asked for; counted, each load would leave less."""
    machine.group("a", "1000", 900, 600)
    assert machine.available == 700


def test_files_that_were_read_again_are_none_either(machine: Machine) -> None:
    """Weights that exceed the memory are dropped and read again, and their pages then called active, up to nearly all:
    once in a while a model that had just been served was refused for want of 11 MiB among 300 of page cache."""
    machine.group("a", "1000", 900, 100, active=500)
    assert machine.available == 700


def test_figures_that_are_missing_or_odd_count_as_none(machine: Machine) -> None:
    machine.group("a", "1000", 400)
    assert machine.available == 600
    (machine.root / "a" / "memory.stat").write_text("one two three\n")
    assert machine.available == 600
    (machine.root / "a" / "memory.current").write_text("much\n")
    assert machine.available == _FREE


def test_use_past_the_limit_leaves_nothing(machine: Machine) -> None:
    machine.group("a", "1000", 1400, 0)
    assert machine.available == 0


def test_version_1(tmp_path: Path) -> None:
    machine = Machine(tmp_path, own="7:cpu,memory:/a\n3:pids:/a")
    machine.group_v1("a", 1000, 900)
    assert machine.available == 100
    machine.group_v1(
        "a", 1000, 900, "inactive_file 0\nactive_file 0\ntotal_inactive_file 30\ntotal_active_file 20\n"
    )
    assert machine.available == 150
    machine.group_v1("a", 9223372036854771712, 900)
    assert machine.available == _FREE


def test_a_machine_that_does_not_tell_is_guessed(tmp_path: Path) -> None:
    nowhere = tmp_path / "none"
    assert available_bytes(nowhere, nowhere, nowhere) is None
    assert available_or_guessed_bytes(nowhere, nowhere, nowhere) > 0


def test_what_there_is_at_all_is_the_tightest_limit(machine: Machine) -> None:
    def limit() -> int:
        return limit_bytes(machine.root, machine.meminfo, machine.own)

    assert limit() == 16_000_000 * 1024
    machine.group("a", "max", 5)
    assert limit() == 16_000_000 * 1024
    machine.group("", "2000000", 1_900_000)
    machine.group("a", "3000000", 5)
    assert limit() == 2_000_000, "used or not"


def test_without_meminfo_the_system_is_asked_what_is_installed(machine: Machine) -> None:
    machine.meminfo.unlink()
    assert limit_bytes(machine.root, machine.meminfo, machine.own) > 100_000_000
