"""What the server costs when nobody asks: the CPU time of every one of its processes."""

from __future__ import annotations

import time

from benchmarks.result import Result
from benchmarks.served import ServedModel

_WATCHED_S = 10.0


def measure_idle(served: ServedModel) -> Result:
    """CPU of the API process and its workers together, in percent of one core, over ten idle seconds."""
    before_s = served.cpu_s_of_all
    time.sleep(_WATCHED_S)
    percent = (served.cpu_s_of_all - before_s) / _WATCHED_S * 100
    return Result(
        "idle, every process", f"{percent:.2f} % CPU", "0 %", percent < 0.5, score=0.5 / max(percent, 0.05)
    )
