"""A helper process's end of its pipes: messages behind four bytes of length, one answer to each.

Helpers do what may run away (compile a grammar, render a template) in a process that serves nobody, so that they
can be killed. ``engine.helper_process`` holds the other end.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import sys
from pathlib import Path

LENGTH_BYTES = 4


def framed(body: bytes) -> bytes:
    """``body`` as it goes through a pipe, in either direction."""
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def confine(memory_bytes: int) -> None:
    """Limit the process to so many bytes of addresses, and make it the first to go where memory runs out."""
    for limit, value in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CORE, 0)):
        # macOS knows no limit of addresses; there the parent's clock is the only wall.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
    with contextlib.suppress(OSError):  # Linux alone has it
        Path("/proc/self/oom_score_adj").write_text("1000")


def receive(idle_s: float | None = None) -> bytes:
    """The next message. Ends the process when there will be none, or none for ``idle_s`` seconds."""
    if not select.select([sys.stdin], [], [], idle_s)[0]:
        os._exit(0)
    header = _read_exactly(LENGTH_BYTES)
    if len(header) < LENGTH_BYTES:
        os._exit(0)
    return _read_exactly(int.from_bytes(header, "big"))


def answer(body: bytes) -> None:
    view = memoryview(framed(body))
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]


def _read_exactly(count: int) -> bytes:
    """``count`` bytes; fewer only at the end of the input."""
    data = bytearray()
    while len(data) < count:
        part = os.read(sys.stdin.fileno(), min(count - len(data), 1 << 20))
        if not part:
            break
        data += part
    return bytes(data)
