"""A job's end of its pipes: one line that says what to do, and then a line for each thing to tell.

A job is a helper (``engine.helper_pipe``) that does one long thing and ends: what may be damaged or made to do harm
is touched in it alone. ``engine.job_process`` holds the other end.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

import msgspec

from engine.errors import ErrorRecord


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The last line of a job that could not do what it was to do."""

    error: ErrorRecord


def read_request(when_abandoned: Callable[[], None] = lambda: None) -> bytes:
    """What to do. From then on the process ends, after ``when_abandoned``, as soon as nobody waits for it any more."""
    # Ctrl-C in a terminal is for whoever started the job, and ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    request = sys.stdin.buffer.readline()
    threading.Thread(target=_watch, args=(when_abandoned,), daemon=True).start()
    return request


def tell(line: bytes) -> None:
    """Send ``line``, which holds no line break."""
    view = memoryview(line + b"\n")
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]


def _watch(when_abandoned: Callable[[], None]) -> None:
    # Nothing is sent after the request, so that a read returns at the end of the pipe alone. Native code lets other
    # threads run, so that this also ends a computation.
    # Not through Python's reader: a process that ends while another thread holds that aborts.
    while os.read(sys.stdin.fileno(), 1):
        pass
    when_abandoned()
    os._exit(1)
