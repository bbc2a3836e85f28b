"""A real ``nibble serve`` in a process of its own, its figures, and its workers."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.patience import PATIENCE_S, eventually
from tests.server.nibble_process import NIBBLE, clean_environment

MODEL = "smollm2-135m-instruct"


class LiveServer:
    """Starts on a free port when made, is loaded when ``ready`` returns. Owned by the test's thread.

    Its output goes to files: a pipe that nobody reads would block it after some hundred lines of log.
    """

    def __init__(self, home: Path, *arguments: str, extra: Mapping[str, str] | None = None) -> None:
        self._printed, self._logged = home / "printed.txt", home / "logged.txt"
        with self._printed.open("wb") as printed, self._logged.open("wb") as logged:
            self._process = subprocess.Popen(
                [NIBBLE, "serve", "--port", "0", *arguments],
                env=clean_environment(home, {"NIBBLE_LOG_FORMAT": "pretty", **(extra or {})}),
                cwd=home,
                stdout=printed,
                stderr=logged,
            )
        self.pid = self._process.pid
        self.url = eventually(self._find_url, bool, "the server prints its address")
        self.port = int(self.url.rpartition(":")[2])
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _find_url(self) -> str:
        assert self._process.poll() is None, self.log()
        words = self._printed.read_text().split()
        # Only of a whole first line: half an address is one, too.
        if "..." not in words:
            return ""
        return next(word.rstrip(",") for word in words if word.startswith("http://"))

    def log(self) -> str:
        return self._logged.read_text()

    def ready(self) -> Self:
        """Wait until a model can answer."""
        eventually(lambda: self.status("/ready"), lambda status: status == 200, "a model is ready")
        return self

    def status(self, path: str) -> int:
        assert self._process.poll() is None, self.log()
        return self.http.get(path).status_code

    def post(self, path: str, body: Mapping[str, object]) -> httpx.Response:
        """The answer to a POST; ``body`` takes the model and greedy choice where it names none."""
        return self.http.post(path, json={"model": MODEL, "temperature": 0, **body})

    def answers(self) -> bool:
        """Whether a small request gets its answer."""
        response = self.post("/v1/completions", {"prompt": "1, 2, 3,", "max_tokens": 1})
        return response.status_code == 200

    def figures(self) -> Figures:
        return Figures(self.http.get("/metrics").text)

    def workers(self) -> dict[str, int]:
        """Process ids of the workers, by the name of the model file that they hold."""
        found: dict[str, int] = {}
        for child in psutil.Process(self.pid).children():
            maps = Path(f"/proc/{child.pid}/maps")
            try:
                files = {line.rpartition("/")[2] for line in maps.read_text().splitlines()}
            except OSError:
                continue
            found.update({name: child.pid for name in files if name.endswith(".gguf")})
        return found

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        """Wait for the end; the exit status."""
        return self._process.wait(timeout=PATIENCE_S)


class Figures:
    """One reading of ``/metrics``."""

    def __init__(self, text: str) -> None:
        self._samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name with these labels; 0 where there are none."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    @property
    def running(self) -> float:
        return self("nibble_requests_running")

    @property
    def waiting(self) -> float:
        return self("nibble_requests_waiting")

    @property
    def aborted(self) -> float:
        return self("nibble_requests_total", finish_reason="abort")

    @property
    def generated(self) -> float:
        return self("nibble_generation_tokens_total")


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a process holds that can leak."""

    files: int
    threads: int

    def fits(self, before: Holdings) -> bool:
        """Whether no more came since ``before`` than comes by itself, and so is bounded however much is asked.

        A look at files or clocks opens one for a moment, now and then. The threads of a pool are started as they
        are first needed, up to its size, and stay.
        """
        return (
            self.files <= before.files + PASSING_FILES and self.threads <= before.threads + MOST_POOL_THREADS
        )


PASSING_FILES = 4
MOST_POOL_THREADS = min(32, (os.cpu_count() or 1) + 4)
"""As concurrent.futures.ThreadPoolExecutor, which asyncio runs blocking calls in, bounds itself."""


class Resources:
    """Open files and threads of a server and of its workers."""

    def __init__(self, server: LiveServer) -> None:
        self._pids = (server.pid, *server.workers().values())

    def count(self) -> list[Holdings]:
        """One for each process, the server's first."""
        return [Holdings(*(self._entries(pid, kind) for kind in ("fd", "task"))) for pid in self._pids]

    @staticmethod
    def _entries(pid: int, kind: str) -> int:
        return len(list(Path(f"/proc/{pid}/{kind}").iterdir()))
