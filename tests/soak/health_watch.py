"""How soon ``/health`` is answered while something else goes on: asked by a process of its own.

A client that is busy with a thousand streams would measure how busy it is itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType
from typing import Self

_PROGRAM = """
import http.client, json, select, sys, time
told = []
while not select.select([sys.stdin], [], [], 0.02)[0]:
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except OSError:
        status = 0
    connection.close()
    told.append((status, time.monotonic() - began))
print(json.dumps(told))
"""


class HealthWatch:
    """Asks up to fifty times a second for as long as it is entered. Owned by one thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._process: subprocess.Popen[str] | None = None
        self.seconds: list[float] = []
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        told, _ = self._process.communicate("end\n")
        for status, seconds in json.loads(told):
            self.seconds.append(seconds)
            if status != 200:
                self.faults.append(f"/health said {status}")

    def percentile_ms(self, percent: int) -> float:
        found = sorted(self.seconds)
        return 1e3 * found[min(len(found) - 1, len(found) * percent // 100)] if found else float("nan")
