"""The machine a measurement was made on, in one line: without it a figure means nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from engine.native import library
from engine.threads import choose_threads


def describe_machine() -> str:
    """Processor, cores, threads used, load, and the kernels of the build."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    threads = choose_threads(None)
    return (
        f"{_processor()}, {os.cpu_count()} cores, {threads.count} threads ({threads.reason}), load {load:.1f}, "
        f"{library.backend_description()}, llama-cpp-python {library.version()}, Python {platform.python_version()}"
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
