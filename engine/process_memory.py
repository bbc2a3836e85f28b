"""How much memory a process has, with those that it has started. Read from Linux's /proc; nobody tells on macOS.

Format: docs.kernel.org/filesystems/proc.html, /proc/PID/status and /proc/PID/task/TID/children.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

_PROC = Path("/proc")


class ProcessMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes in RAM at one moment."""

    resident_bytes: int
    """All of it, pages of mapped files included: weights that are mapped count here once they were read."""
    anonymous_bytes: int
    """The part that only ending the process gives back; the rest can be read from its files again."""


def process_memory(pid: int, proc: Path = _PROC) -> ProcessMemory | None:
    """What ``pid`` and its descendants hold; None where nobody tells, and where it has ended."""
    own = _read_status(proc / str(pid) / "status")
    if own is None:
        return None
    resident, anonymous = own
    for child in _children(proc / str(pid)):
        if below := process_memory(child, proc):
            resident += below.resident_bytes
            anonymous += below.anonymous_bytes
    return ProcessMemory(resident_bytes=resident, anonymous_bytes=anonymous)


def _read_status(status: Path) -> tuple[int, int] | None:
    figures = {"VmRSS": 0, "RssAnon": 0}
    try:
        for line in status.read_text().splitlines():
            name, _, value = line.partition(":")
            if name in figures:
                figures[name] = int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return figures["VmRSS"], figures["RssAnon"]


def _children(process: Path) -> list[int]:
    found: list[int] = []
    try:
        for task in (process / "task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except (OSError, ValueError):
        # A thread that ends while it is looked at, or a kernel that keeps no such list.
        pass
    return found
