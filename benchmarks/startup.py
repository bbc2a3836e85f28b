"""From ``nibble serve`` to the first answer of ``/health``, and to a model that has decoded a token."""

from __future__ import annotations

import statistics

from benchmarks.result import Result
from benchmarks.served import ServedModel


def measure_startup(*, rounds: int) -> Result:
    """With the default settings, as a person would start it."""
    health_s, ready_s = [], []
    for _ in range(rounds):
        with ServedModel() as served:
            health_s.append(served.health_s)
            ready_s.append(served.ready_s)
    health, ready = statistics.median(health_s), statistics.median(ready_s)
    return Result(
        "nibble serve",
        f"/health after {health:.2f} s, bundled model ready after {ready:.2f} s",
        "under 1 s, under 2 s",
        health < 1.0 and ready < 2.0,
        "ready: " + ", ".join(f"{each:.2f}" for each in ready_s) + " s",
        score=min(1.0 / health, 2.0 / ready),
    )
