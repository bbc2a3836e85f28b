"""A helper process as its worker holds it: started when needed, killed when it does not answer in time."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time

from engine.helper_pipe import LENGTH_BYTES, framed

_START_S = 20.0
"""A process on a busy machine, with much to read."""


class HelperProcess:
    """Runs ``python -m module``, which speaks through ``engine.helper_pipe``.

    It is greeted once with ``greeting``, and answers that too. Owned by one thread; ``close`` may come from any.
    """

    def __init__(self, module: str, greeting: bytes) -> None:
        self._module = module
        self._greeting = framed(greeting)
        self._process: subprocess.Popen[bytes] | None = None
        self._welcome: bytes | None = None
        self._is_at_end = False

    def start(self) -> None:
        """Start the process if there is none. Returns before it is ready."""
        if self._process is not None and self._process.poll() is None:
            return
        self.reap()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
        )
        self._write(self._greeting)

    def welcome(self) -> bytes | None:
        """The answer to the greeting of the process that runs; None when it has ended. Raises TimeoutError."""
        self.start()
        if self._welcome is None:
            self._welcome = self._receive(_START_S)
        return self._welcome

    def ask(self, question: bytes, patience_s: float) -> bytes | None:
        """The answer to ``question``; None when the process has ended. Raises TimeoutError."""
        if self.welcome() is None:
            return None
        self._write(framed(question))
        return self._receive(patience_s)

    @property
    def has_ended(self) -> bool:
        """Whether the pipe was closed: the process is gone, or about to be."""
        return self._is_at_end

    def reap(self) -> int | None:
        """Forget a process that has ended; its exit code, None if there was none."""
        process, self._process = self._process, None
        self._welcome = None
        self._is_at_end = False
        if process is None:
            return None
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        return process.wait()

    def close(self) -> None:
        """End the process. The next question starts another."""
        if self._process is not None:
            self._process.kill()
        self.reap()

    def _receive(self, patience_s: float) -> bytes | None:
        limit_s = time.monotonic() + patience_s
        header = self._read(LENGTH_BYTES, limit_s)
        if len(header) < LENGTH_BYTES:
            return None
        size = int.from_bytes(header, "big")
        body = self._read(size, limit_s)
        return body if len(body) == size else None

    def _write(self, data: bytes) -> None:
        assert self._process is not None, "started before it is written to"
        assert self._process.stdin is not None, "made with pipes"
        view = memoryview(data)
        with contextlib.suppress(BrokenPipeError):  # then the read that follows finds the end
            while view:
                view = view[os.write(self._process.stdin.fileno(), view) :]

    def _read(self, count: int, limit_s: float) -> bytes:
        assert self._process is not None, "started before it is read from"
        assert self._process.stdout is not None, "made with pipes"
        descriptor = self._process.stdout.fileno()
        data = bytearray()
        while len(data) < count:
            if not select.select([descriptor], [], [], max(0.0, limit_s - time.monotonic()))[0]:
                raise TimeoutError
            part = os.read(descriptor, count - len(data))
            if not part:
                self._is_at_end = True
                break
            data += part
        return bytes(data)
