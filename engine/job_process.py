"""A job as whoever started it holds it: heard line by line, ended when told to, and gone when it is let go of."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from types import TracebackType

from engine.load_death import cause_of
from engine.spawned_worker import worker_environment

KILLED = -9
"""The exit status of a process that the kernel has killed, which it does where memory runs out."""
_LOOK_S = 0.1
"""How soon a job ends that is to be ended."""
_LAST_LINES = 20
_LONGEST_LINE = 64 << 20
"""Of what a process tells that a hostile file may have in its hands."""


class JobCancelled(Exception):
    """The job was ended because it was told to."""


class JobProcess:
    """Runs ``python -m module``, which speaks through ``engine.job_pipe``. Owned by one thread; a context manager.

    ``cancel`` may be set by any thread.
    """

    def __init__(self, module: str, request: bytes, cancel: threading.Event | None = None) -> None:
        """``request`` is one line, without a line break in it."""
        self._module = module
        self._request = request
        self._cancel = cancel or threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)

    def __enter__(self) -> JobProcess:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=worker_environment(),
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def lines(self) -> Iterator[bytes]:
        """Send the request, and give every line that the process tells, until it has ended. Raises JobCancelled."""
        process = self._process
        assert process is not None, "entered before it is listened to"
        assert process.stdin is not None, "made with pipes"
        assert process.stdout is not None, "made with pipes"
        assert process.stderr is not None, "made with pipes"
        with contextlib.suppress(BrokenPipeError):  # then the reads that follow find the end, and its cause
            view = memoryview(self._request + b"\n")
            while view:
                view = view[os.write(process.stdin.fileno(), view) :]
        with selectors.DefaultSelector() as selector:
            for pipe in (process.stdout, process.stderr):
                selector.register(pipe, selectors.EVENT_READ, bytearray())
            while selector.get_map():
                for key, _ in selector.select(_LOOK_S):
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fileobj)
                    ended = _ended_lines(key.data, data)
                    if len(key.data) > _LONGEST_LINE:
                        process.kill()
                    if key.fileobj is process.stdout:
                        yield from ended
                    else:
                        self._last_lines += [line.decode("utf-8", "replace").strip() for line in ended]
                if self._cancel.is_set():
                    raise JobCancelled

    def end(self) -> tuple[int, str]:
        """Wait for the end: the exit status, negative for a signal, and that in words with what was last said."""
        assert self._process is not None, "entered before it is waited for"
        status = self._process.wait()
        said = next((f" ({line[:200]})" for line in reversed(self._last_lines) if line), "")
        return status, f"{cause_of(status)}{said}"


def _ended_lines(kept: bytearray, data: bytes) -> list[bytes]:
    """The lines that end in ``data``, of which ``kept`` holds a beginning, and then that of the next line."""
    if b"\n" not in data:
        kept += data
        return []
    *ended, rest = bytes(kept + data).split(b"\n")
    kept[:] = rest
    return ended
