"""The canary as the worker holds it: started when needed, killed when it does not answer in time."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time

import msgspec

from engine.constraint.canary import LENGTH_BYTES, Question, Verdict, framed
from engine.constraint.spec import ConstraintSpec
from engine.constraint.token_bytes import TokenBytes

ANSWER_S = 1.0
"""How long a grammar may take to compile, and its first masks to compute."""
_START_S = 20.0
"""A process on a busy machine, and a trie of a quarter of a million tokens."""


class CanaryProcess:
    """Judges grammars in a process of its own. Owned by one thread; ``close`` may come from any."""

    def __init__(self, tokens: TokenBytes, *, answer_s: float = ANSWER_S) -> None:
        self._greeting = framed(msgspec.msgpack.encode(tokens))
        self._answer_s = answer_s
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False

    def judge(self, spec: ConstraintSpec) -> Verdict:
        """The canary's verdict on ``spec``; its death and its silence are refusals."""
        question = framed(msgspec.msgpack.encode(Question(spec)))
        for is_second in (False, True):
            try:
                verdict = self._ask(question)
            except TimeoutError:
                self.close()
                return Verdict(refusal=f"it takes more than {self._answer_s:g} s to compile")
            if verdict is not None:
                return verdict
            was_idle = self._end() == 0
            if not was_idle or is_second:
                break
        return Verdict(refusal="it takes too much memory, or is nested too deeply")

    def start(self) -> None:
        """Start the process if there is none. Returns before it is ready."""
        if self._process is not None and self._process.poll() is None:
            return
        self._end()
        self._is_ready = False
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.constraint.canary"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
        )
        self._write(self._greeting)

    def _ask(self, question: bytes) -> Verdict | None:
        """None when the process has ended. Raises TimeoutError."""
        self.start()
        if not self._is_ready:
            self._is_ready = self._receive(_START_S) is not None
        self._write(question)
        return self._receive(self._answer_s)

    def _receive(self, patience_s: float) -> Verdict | None:
        limit_s = time.monotonic() + patience_s
        header = self._read(LENGTH_BYTES, limit_s)
        if len(header) < LENGTH_BYTES:
            return None
        size = int.from_bytes(header, "big")
        body = self._read(size, limit_s)
        return msgspec.msgpack.decode(body, type=Verdict) if len(body) == size else None

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
                break
            data += part
        return bytes(data)

    def _end(self) -> int | None:
        """Reap the process; its exit code, None if there was none."""
        process, self._process = self._process, None
        if process is None:
            return None
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        return process.wait()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
        self._end()
