"""Requests that share a long head, as those of one application do, on a cold cache."""

from __future__ import annotations

import statistics

from benchmarks.bare_loop import BareLoop
from benchmarks.result import Result
from benchmarks.served import ServedModel, tokens_per_second
from benchmarks.workload import Workload

_HEAD_TOKENS = 700
"""About what 512 English words make."""
_WORKLOAD = Workload(
    clients=8,
    requests_per_client=3,
    prompt_tokens=_HEAD_TOKENS + 24,
    answer_tokens=64,
    head_tokens=_HEAD_TOKENS,
)


def measure_shared_head(bare: BareLoop, served: ServedModel, *, rounds: int) -> Result:
    """24 requests, 8 at a time, beside a loop that computes the head once and copies it."""
    ratios, rates = [], []
    for number in range(rounds):
        bare_rate = bare.measure(_WORKLOAD, seed=90_000 + number)
        rate = tokens_per_second(served.measure(_WORKLOAD, seed=90_000 + number))
        ratios.append(rate / bare_rate)
        rates.append(rate)
    ratio = statistics.median(ratios)
    return Result(
        f"24 requests that share a head of {_HEAD_TOKENS} tokens, 8 at a time, cold",
        f"{ratio:.2f} of a loop that computes the head once",
        "at least 0.90",
        ratio >= 0.9,
        f"{statistics.median(rates):.0f} tok/s",
        score=ratio / 0.9,
    )
