"""Memory of real processes, and of a /proc that lies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.process_memory import process_memory

_HELD = 64 << 20
_HOLD = f"""
import subprocess, sys
depth = int(sys.argv[1])
held = b"x" * {_HELD}
child = subprocess.Popen([sys.executable, "-c", {{source!r}}, "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\\
    if depth else None
if child: child.stdout.readline()
print("held", flush=True)
sys.stdin.read()
if child: child.communicate()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_it_counts_what_a_process_and_its_child_hold() -> None:
    leaf = _HOLD.format(source="")
    figures = []
    for depth in ("0", "1"):
        command = [sys.executable, "-c", _HOLD.format(source=leaf), depth]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            memory = process_memory(process.pid)
            assert memory is not None
            assert memory.resident_bytes > memory.anonymous_bytes > _HELD
            figures.append(memory.anonymous_bytes)
            process.communicate()
            assert process_memory(process.pid) is None
    assert figures[1] - figures[0] > _HELD


def test_where_nobody_tells_there_is_no_figure(tmp_path: Path) -> None:
    assert process_memory(os.getpid(), tmp_path) is None
    home = tmp_path / "7"
    home.mkdir()
    (home / "status").write_text("Name:\tx\nVmRSS:\tmany kB\n")
    assert process_memory(7, tmp_path) is None
    (home / "status").write_text("Name:\tx\nVmRSS:\t12 kB\nRssAnon:\t8 kB\n")
    memory = process_memory(7, tmp_path)
    assert memory is not None
    assert (memory.resident_bytes, memory.anonymous_bytes) == (12 * 1024, 8 * 1024)
