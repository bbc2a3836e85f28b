"""How much memory a model will need, and how much there is."""

from __future__ import annotations

from pathlib import Path

_KV_FLOOR_BYTES = 128 << 20
_COMPUTE_BYTES = 64 << 20
_CGROUP_ROOT = Path("/sys/fs/cgroup")


def estimate_bytes(file_bytes: int, kv_budget_bytes: int | None) -> int:
    """Weights, KV cache and compute buffers of a model that is not loaded yet.

    Without a KV budget the engine fits its cache to what is left, so only a cache worth having is counted.
    """
    kv_bytes = _KV_FLOOR_BYTES if kv_budget_bytes is None else kv_budget_bytes
    return file_bytes + kv_bytes + _COMPUTE_BYTES


def available_bytes(
    cgroup_root: Path = _CGROUP_ROOT,
    meminfo: Path = Path("/proc/meminfo"),
    own_cgroup: Path = Path("/proc/self/cgroup"),
) -> int | None:
    """Bytes left in the machine or in the tightest cgroup around us; None where nobody tells."""
    figures = [_machine_bytes(meminfo), *_cgroup_bytes(cgroup_root, own_cgroup)]
    return min((figure for figure in figures if figure is not None), default=None)


def _machine_bytes(meminfo: Path) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _cgroup_bytes(root: Path, own_cgroup: Path) -> list[int | None]:
    """What each enclosing cgroup (v2, or v1's memory controller) leaves.

    Docs: docs.kernel.org/admin-guide/cgroup-v2.html, memory interface files.
    """
    try:
        lines = own_cgroup.read_text().splitlines()
    except OSError:
        return []
    left: list[int | None] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, limit, usage = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, limit, usage = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        folder = base / path.lstrip("/")
        # Inside a container the path may be the host's and not exist here: then the mount is our group.
        while folder != base and base in folder.parents:
            left.append(_group_bytes(folder, limit, usage))
            folder = folder.parent
        left.append(_group_bytes(base, limit, usage))
    return left


def _group_bytes(folder: Path, limit: str, usage: str) -> int | None:
    try:
        limit_bytes = int((folder / limit).read_text())  # "max" is no number: no limit
        used_bytes = int((folder / usage).read_text())
        figures = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    # Page cache that is not in active use is given back before anything fails for want of memory.
    reclaimable = int(figures.get("inactive_file", figures.get("total_inactive_file", 0)))
    return max(0, limit_bytes - used_bytes + reclaimable)
