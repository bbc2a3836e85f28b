"""Checks of the machine: its system, its memory, and what a process may open."""

from __future__ import annotations

import platform
import resource
import sys

from engine.memory import available_or_guessed_bytes, limit_bytes
from engine.threads import choose_threads
from server.doctor.finding import Finding
from server.settings import Settings

_LEAST_FILES = 1024
_LITTLE_MEMORY_BYTES = 1 << 30


def check_machine(system: str = platform.system(), machine: str = platform.machine()) -> Finding:
    """The system and its processors."""
    threads = choose_threads(None)
    text = f"{system} on {machine}, Python {platform.python_version()}, {threads.count} threads: {threads.reason}"
    if system not in ("Linux", "Darwin"):
        return Finding(
            check="machine", status="fail", text=text, mend="use Linux or macOS; on Windows, WSL 2 is a Linux"
        )
    if sys.maxsize < 2**32:
        return Finding(
            check="machine",
            status="fail",
            text=f"{text}; a 32-bit Python cannot map a model",
            mend="install a 64-bit system and Python",
        )
    return Finding(check="machine", status="ok", text=text)


def check_memory(settings: Settings, available: int | None = None, limit: int | None = None) -> Finding:
    """What is left, and whether the budget that is set is there at all."""
    available = available_or_guessed_bytes() if available is None else available
    limit = limit_bytes() if limit is None else limit
    text = f"{available / 1e9:.1f} of {limit / 1e9:.1f} GB are free"
    if settings.memory_budget is not None and settings.memory_budget > limit:
        return Finding(
            check="memory",
            status="warn",
            text=f"{text}, and memory_budget is {settings.memory_budget / 1e9:.1f} GB",
            mend=f"set memory_budget below {limit / 1e9:.1f} GB, or the system ends workers when memory is gone",
        )
    if available < _LITTLE_MEMORY_BYTES:
        return Finding(
            check="memory",
            status="warn",
            text=text,
            mend="free memory, or serve a small model: 'nibble catalog' tells what each needs",
        )
    return Finding(check="memory", status="ok", text=text)


def check_files(limit: int | None = None) -> Finding:
    """How many files and connections a process may have open."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
    if soft == resource.RLIM_INFINITY:
        return Finding(check="open files", status="ok", text="no limit")
    text = f"a process may have {soft} open"
    if soft < _LEAST_FILES:
        return Finding(
            check="open files",
            status="warn",
            text=f"{text}; each client takes one",
            mend=f"raise the limit: 'ulimit -n {_LEAST_FILES * 4}', or LimitNOFILE= of the systemd unit",
        )
    return Finding(check="open files", status="ok", text=text)
