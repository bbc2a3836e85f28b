"""How much memory is left: in the machine, and in every cgroup around this process."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_OWN_CGROUP = Path("/proc/self/cgroup")


def available_bytes(
    cgroup_root: Path = _CGROUP_ROOT, meminfo: Path = _MEMINFO, own_cgroup: Path = _OWN_CGROUP
) -> int | None:
    """Bytes left in the machine or in the tightest cgroup around us; None where nobody tells (macOS)."""
    figures = [_machine_bytes(meminfo), *_cgroup_bytes(cgroup_root, own_cgroup)]
    return min((figure for figure in figures if figure is not None), default=None)


def available_or_guessed_bytes(
    cgroup_root: Path = _CGROUP_ROOT, meminfo: Path = _MEMINFO, own_cgroup: Path = _OWN_CGROUP
) -> int:
    """The same; where nobody tells, half of what is installed is a fair guess of what is free."""
    available = available_bytes(cgroup_root, meminfo, own_cgroup)
    if available is not None:
        return available
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def limit_bytes(
    cgroup_root: Path = _CGROUP_ROOT, meminfo: Path = _MEMINFO, own_cgroup: Path = _OWN_CGROUP
) -> int:
    """Bytes that there are at all, used or not: the machine's memory, or the tightest limit of a cgroup around us."""
    installed = _machine_bytes(meminfo, "MemTotal:")
    if installed is None:
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (_read_int(folder / limit) for folder, limit, _ in _cgroup_folders(cgroup_root, own_cgroup))
    return min([installed, *(limit for limit in limits if limit is not None)])


def _machine_bytes(meminfo: Path, name: str = "MemAvailable:") -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _cgroup_bytes(root: Path, own_cgroup: Path) -> list[int | None]:
    """What each enclosing cgroup leaves."""
    return [_group_bytes(*group) for group in _cgroup_folders(root, own_cgroup)]


def _cgroup_folders(root: Path, own_cgroup: Path) -> list[tuple[Path, str, str]]:
    """Each enclosing cgroup (v2, or v1's memory controller): its folder, and the files of its limit and its usage.

    Docs: docs.kernel.org/admin-guide/cgroup-v2.html, memory interface files.
    """
    try:
        lines = own_cgroup.read_text().splitlines()
    except OSError:
        return []
    found: list[tuple[Path, str, str]] = []
    for line in lines:
        # hierarchy : controllers : path; the path may hold colons itself.
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            base, limit, usage = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, limit, usage = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        folder = base / path.lstrip("/")
        # Inside a container the path may be the host's and not exist here: then the mount is our group.
        while folder != base and base in folder.parents:
            found.append((folder, limit, usage))
            folder = folder.parent
        found.append((base, limit, usage))
    return found


def _group_bytes(folder: Path, limit: str, usage: str) -> int | None:
    most, used = _read_int(folder / limit), _read_int(folder / usage)
    if most is None or used is None:
        return None
    return max(0, most - used + _reclaimable_bytes(folder / "memory.stat"))


def _read_int(path: Path) -> int | None:
    """None without the file, and for "max", which is no number: no limit."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _reclaimable_bytes(stat: Path) -> int:
    """Page cache: it is given back before anything fails for want of memory, as MemAvailable of the machine counts it.

    Of either list of the kernel's: a page that was read again soon after it was dropped is called active, and of
    weights that exceed the memory those are many, or few, as it happens.
    """
    try:
        figures = dict(line.split() for line in stat.read_text().splitlines())
        # v1 counts the group alone in the one, and with the groups below it, as its usage does, in the other.
        return sum(
            int(figures.get(f"total_{name}", figures.get(name, 0)))
            for name in ("inactive_file", "active_file")
        )
    except (OSError, ValueError):
        return 0
