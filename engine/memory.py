"""How much memory is left: what the cgroup allows, then what the machine has."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")


def available_bytes(cgroup_root: Path = _CGROUP_ROOT, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that this process may still take without swapping or being killed."""
    machine = _machine_available(meminfo)
    limit = _cgroup_left(cgroup_root)
    return machine if limit is None else min(machine, limit)


def _machine_available(meminfo: Path) -> int:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    # No /proc (macOS): half of what is installed is a fair guess of what is free.
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _cgroup_left(root: Path) -> int | None:
    for limit_name, usage_name, stat_name, reclaimable in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        try:
            limit = (root / limit_name).read_text().strip()
            if limit != "max":
                used = int((root / usage_name).read_text()) - _stat(root / stat_name, reclaimable)
                return max(0, int(limit) - used)
        except (OSError, ValueError):
            continue
    return None


def _stat(path: Path, name: str) -> int:
    """One figure of ``memory.stat``, in bytes. The page cache of files read once counts as use, and is given up."""
    try:
        figures = dict(line.split() for line in path.read_text().splitlines())
        return int(figures.get(name, 0))
    except (OSError, ValueError):
        return 0
