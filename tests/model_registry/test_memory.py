from __future__ import annotations

from pathlib import Path

from model_registry.memory import available_bytes, estimate_bytes


def machine(tmp_path: Path, groups: dict[str, tuple[str, int, int]], own: str) -> int | None:
    """Available bytes on a machine with 8 GB free and these cgroups: path -> (limit, used, inactive file)."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n")
    root = tmp_path / "cgroup"
    root.mkdir()
    for name, (limit, used, inactive) in groups.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")
    proc = tmp_path / "own"
    proc.write_text(f"0::{own}\n")
    return available_bytes(root, meminfo, proc)


def test_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    assert machine(tmp_path, {"a": ("max", 1000, 0)}, "/a") == 8_192_000_000


def test_the_tightest_group_on_the_way_up_counts(tmp_path: Path) -> None:
    groups = {"a/b": ("4000000000", 1_000_000_000, 500), "a": ("2000000000", 1_500_000_000, 250)}
    assert machine(tmp_path, groups, "/a/b") == 500_000_250


def test_a_path_of_the_host_inside_a_container_falls_back_to_the_mount(tmp_path: Path) -> None:
    assert machine(tmp_path, {".": ("1000", 400, 100)}, "/docker/0123") == 700


def test_a_group_over_its_limit_has_nothing_left(tmp_path: Path) -> None:
    assert machine(tmp_path, {"a": ("1000", 1400, 0)}, "/a") == 0


def test_nobody_tells(tmp_path: Path) -> None:
    assert available_bytes(tmp_path, tmp_path / "none", tmp_path / "none") is None


def test_the_estimate_counts_weights_cache_and_buffers() -> None:
    assert estimate_bytes(100 << 20, 300 << 20) == (100 + 300 + 64) << 20
    assert estimate_bytes(100 << 20, None) == (100 + 128 + 64) << 20
