"""Unique prompts, several clients: served tokens a second beside the bare library's, as a ratio."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from benchmarks.bare_loop import BareLoop
from benchmarks.result import Result
from benchmarks.served import ServedModel, tokens_per_second
from benchmarks.workload import Workload

_JUDGED_CLIENTS = 16


@dataclass(frozen=True, slots=True)
class ThroughputRow:
    """The medians of one number of clients. Rates are tokens generated a second, prefill included."""

    clients: int
    bare: float
    served: float
    ratio: float
    """Median of the rounds' own ratios: both sides of each were measured within seconds of one another."""
    first_token_s: float
    api_cpu_us_per_token: float


def measure_throughput(
    bare: BareLoop, served: ServedModel, clients: list[int], *, rounds: int
) -> list[ThroughputRow]:
    """One row per number of clients; the bare loop and the server take turns, ``rounds`` times."""
    return [_measure_row(bare, served, count, rounds) for count in clients]


def throughput_results(rows: list[ThroughputRow]) -> list[Result]:
    """The rows against their goals; the API's cost per token is judged at 16 clients."""
    results = [
        Result(
            f"unique prompts, {row.clients} {'client' if row.clients == 1 else 'clients'}",
            f"{row.ratio:.2f} of the bare library",
            "at least 0.95",
            row.ratio >= 0.95,
            f"{row.served:.0f} against {row.bare:.0f} tok/s, first token {row.first_token_s:.2f} s",
        )
        for row in rows
    ]
    for row in rows:
        if row.clients == _JUDGED_CLIENTS:
            cpu_us = row.api_cpu_us_per_token
            results.append(
                Result(
                    "API process, 16 clients", f"{cpu_us:.0f} us of CPU a token", "under 60 us", cpu_us < 60
                )
            )
    return results


def _measure_row(bare: BareLoop, served: ServedModel, clients: int, rounds: int) -> ThroughputRow:
    workload = Workload(clients, requests_per_client=max(2, 8 // clients))
    bare_rates: list[float] = []
    served_rates: list[float] = []
    first_tokens_s: list[float] = []
    cpu_before_s = served.api_cpu_s
    for number in range(rounds):
        bare_rates.append(bare.measure(workload, seed=1000 * clients + number))
        streams = served.measure(workload, seed=1000 * clients + number)
        served_rates.append(tokens_per_second(streams))
        first_tokens_s += [stream.first_token_s for stream in streams]
    return ThroughputRow(
        clients=clients,
        bare=statistics.median(bare_rates),
        served=statistics.median(served_rates),
        ratio=statistics.median(s / b for s, b in zip(served_rates, bare_rates, strict=True)),
        first_token_s=statistics.median(first_tokens_s),
        api_cpu_us_per_token=(served.api_cpu_s - cpu_before_s) / (rounds * workload.tokens) * 1e6,
    )
