"""A nibble server as a process, or any other server with OpenAI's API, and its speed under a workload."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from types import TracebackType
from typing import Self

import psutil

from benchmarks.stream_client import StreamClient, StreamTimes
from benchmarks.workload import Workload

_READY_PATIENCE_S = 120.0


class ServedModel:
    """Starts ``nibble serve`` on a free port. Use as a context manager."""

    def __init__(self, *arguments: str) -> None:
        """``arguments`` are those of ``nibble serve``."""
        self._data_dir = tempfile.TemporaryDirectory(prefix="nibble-bench-")
        self._arguments = ("--port", "0", *arguments)
        self.health_s = self.ready_s = 0.0
        """Seconds from the start of the process to its first answer, and to a model that decodes."""
        self._process: subprocess.Popen[str] | None = None
        self.url = ""
        self.model = ""

    def __enter__(self) -> Self:
        command = [
            sys.executable,
            "-m",
            "server",
            "serve",
            "--data-dir",
            self._data_dir.name,
            *self._arguments,
        ]
        started_s = time.monotonic()
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := re.search(r"http://[\w.]+:\d+", line):
                self.url = found[0]
                break
        # Whatever else it prints is read by nobody, so it must not be a pipe that fills.
        os.set_blocking(self._process.stdout.fileno(), False)
        self._wait_for("/health")
        self.health_s = time.monotonic() - started_s
        self._wait_for("/ready")
        self.ready_s = time.monotonic() - started_s
        with urllib.request.urlopen(f"{self.url}/v1/models") as answer:
            self.model = json.load(answer)["data"][0]["id"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        self._data_dir.cleanup()

    def _wait_for(self, path: str) -> None:
        deadline_s = time.monotonic() + _READY_PATIENCE_S
        while time.monotonic() < deadline_s:
            try:
                with urllib.request.urlopen(f"{self.url}{path}"):
                    return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.01)
        raise RuntimeError(f"{path} did not answer within {_READY_PATIENCE_S:.0f} s")

    @property
    def api_cpu_s(self) -> float:
        """CPU seconds that the API process (not the worker) has used so far."""
        return _cpu_s(self._own)

    @property
    def cpu_s_of_all(self) -> float:
        """CPU seconds of the API process and its workers."""
        return sum(_cpu_s(process) for process in (self._own, *self._own.children(recursive=True)))

    @property
    def _own(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def measure(self, workload: Workload, seed: int, *, every_piece: bool = True) -> list[StreamTimes]:
        """One round: every client sends its requests one after another, all clients at once."""
        return measure_url(self.url, self.model, workload, seed, every_piece=every_piece)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def measure_url(
    url: str, model: str, workload: Workload, seed: int, *, every_piece: bool = True
) -> list[StreamTimes]:
    """Run ``workload`` against any server with OpenAI's API."""
    client = StreamClient(url, model)

    async def one(prompts: list[list[int]]) -> list[StreamTimes]:
        return [
            await client.complete(prompt, answer_tokens=workload.answer_tokens, every_piece=every_piece)
            for prompt in prompts
        ]

    async def all_of_them() -> list[StreamTimes]:
        answers = await asyncio.gather(*(one(prompts) for prompts in workload.prompts(seed)))
        return [times for each in answers for times in each]

    return asyncio.run(all_of_them())


def tokens_per_second(streams: list[StreamTimes]) -> float:
    """Tokens a second from the first question to the last piece."""
    elapsed_s = max(s.pieces_s[-1] for s in streams) - min(s.asked_s for s in streams)
    return sum(s.tokens for s in streams) / elapsed_s
