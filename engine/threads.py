"""How many threads to compute with: the CPU quota of the cgroup, then the affinity mask, never the host's cores."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class ThreadChoice:
    """A number of threads, and the reason for it in words for the operator."""

    count: int
    reason: str


def choose_threads(requested: int | None, cgroup_root: Path = _CGROUP_ROOT) -> ThreadChoice:
    """Threads to compute with: ``requested`` if given, else what the cgroup, then the affinity mask allows."""
    if requested is not None:
        return ThreadChoice(requested, "as configured")
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(cgroup_root)
    if quota is not None and quota < allowed:
        return ThreadChoice(max(1, math.floor(quota)), f"the container's CPU quota of {quota:g}")
    cores = "core" if allowed == 1 else "cores"
    return ThreadChoice(allowed, f"{allowed} {cores} allowed to this process")


def cpu_quota(cgroup_root: Path = _CGROUP_ROOT) -> float | None:
    """CPUs that the cgroup grants, as a fraction; None without a limit. Reads cgroup v2 and v1."""
    try:
        words = (cgroup_root / "cpu.max").read_text().split()
    except OSError:
        try:
            words = [
                (cgroup_root / "cpu/cpu.cfs_quota_us").read_text(),
                (cgroup_root / "cpu/cpu.cfs_period_us").read_text(),
            ]
        except OSError:
            return None
    try:
        quota, period = (int(word) for word in words[:2])
    except ValueError:  # "max", or nothing that we can read
        return None
    return quota / period if quota > 0 and period > 0 else None
