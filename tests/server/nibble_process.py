"""A real server process, met through what it prints, what it answers and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import urlsplit

from tests.fixtures.memory_group import MemoryGroup

ROOT = Path(__file__).parents[2]
NIBBLE = Path(sys.executable).with_name("nibble")
_PATIENCE_S = 60.0


def free_port() -> int:
    """A port that nobody listens on, for a program that cannot be asked which one it took."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def clean_environment(data_dir: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's environment, with the test's data directory in place of settings of the caller's own.

    Attention is set: which one a trial finds faster may be another for each of two servers that are compared.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NIBBLE_")}
    ours = {"NIBBLE_DATA_DIR": str(data_dir), "NIBBLE_FLASH_ATTENTION": "on"}
    return kept | ours | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | dict(extra or {})


def run_nibble(data_dir: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run ``nibble`` to its end, in the data directory."""
    return subprocess.run(
        [NIBBLE, *arguments],
        env=clean_environment(data_dir, extra),
        cwd=data_dir,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )


class ServerUnderTest:
    """``nibble serve`` on a free port, with the echo engine or the real one. Owned by the test's thread."""

    def __init__(
        self,
        data_dir: Path,
        *,
        real_engine: bool = False,
        variables: Mapping[str, str] | None = None,
        group: MemoryGroup | None = None,
        **extra: str,
    ) -> None:
        command: list[str | Path] = (
            [NIBBLE, "serve"] if real_engine else [sys.executable, ROOT / "tests/server/echo_engine.py"]
        )
        self._process = subprocess.Popen(
            command if group is None else group.wrapped(*command),
            env=clean_environment(data_dir, {"NIBBLE_PORT": "0", **(variables or {}), **extra}),
            cwd=data_dir,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.printed: list[str] = []
        first = self._line()
        self.url = next((word.rstrip(",") for word in first.split() if word.startswith("http://")), "")
        self.pid = self._process.pid

    def __enter__(self) -> ServerUnderTest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def wait_until_loaded(self) -> None:
        """Read the banner to its last line."""
        while not self.printed[-1].startswith("print("):
            self._line()

    @contextmanager
    def open(
        self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer whose body is still to be read; POST where there is a body."""
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_PATIENCE_S)
        kind = {"content-type": "application/json"} if body else {}
        try:
            connection.request("POST" if body else "GET", path, body, {**kind, **(headers or {})})
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()

    def status(self, path: str) -> int:
        with self.open(path) as response:
            response.read()
            return response.status

    def stop_reading(self) -> None:
        """Close our ends of both streams, as ``| head -1`` does."""
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Wait for the end: exit status, and what was written to stderr."""
        _, errors = self._process.communicate(timeout=_PATIENCE_S)
        return self._process.returncode, errors

    def end_cleanly(self) -> list[dict[str, object]]:
        """Order it to stop, and see that it does so without complaint: the lines of its log."""
        self.signal(signal.SIGTERM)
        code, errors = self.end()
        assert code == 0
        assert "Traceback" not in errors
        return [json.loads(line) for line in errors.splitlines()]

    def _line(self) -> str:
        stdout: IO[str] | None = self._process.stdout
        assert stdout is not None
        line = stdout.readline()
        if not line:
            _, errors = self._process.communicate(timeout=_PATIENCE_S)
            raise AssertionError(f"the server ended: {errors}")
        self.printed.append(line.rstrip("\n"))
        return line
