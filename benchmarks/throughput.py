"""Unique prompts, several clients: served tokens a second beside the bare library's, as a ratio."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.bare_loop import BareLoop
from benchmarks.other_server import OtherServer
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
    beside: tuple[tuple[str, float], ...] = ()
    """Other servers by name, and their rates under the same load in the same rounds."""


def measure_throughput(
    bare: BareLoop,
    served: ServedModel,
    clients: list[int],
    *,
    rounds: int,
    others: Sequence[OtherServer] = (),
) -> list[ThroughputRow]:
    """One row per number of clients; the bare loop and the servers take turns, ``rounds`` times."""
    return [_measure_row(bare, served, count, rounds, others) for count in clients]


def throughput_results(rows: list[ThroughputRow]) -> list[Result]:
    """The rows against their goals; the API's cost per token is judged at 16 clients."""
    results = [
        Result(
            f"unique prompts, {row.clients} {'client' if row.clients == 1 else 'clients'}",
            f"{row.ratio:.2f} of the bare library",
            "at least 0.95",
            row.ratio >= 0.95,
            f"{row.served:.0f} against {row.bare:.0f} tok/s, first token {row.first_token_s:.2f} s"
            + "".join(f"; {name}: {rate / row.bare:.2f} ({rate:.0f} tok/s)" for name, rate in row.beside),
            score=row.ratio / 0.95,
        )
        for row in rows
    ]
    for row in rows:
        if row.clients == _JUDGED_CLIENTS:
            cpu_us = row.api_cpu_us_per_token
            results.append(
                Result(
                    "API process, 16 clients",
                    f"{cpu_us:.0f} us of CPU a token",
                    "under 60 us",
                    cpu_us < 60,
                    score=60 / cpu_us,
                )
            )
    return results


def _measure_row(
    bare: BareLoop, served: ServedModel, clients: int, rounds: int, others: Sequence[OtherServer]
) -> ThroughputRow:
    workload = Workload(clients, requests_per_client=max(2, 8 // clients))
    bare_rates: list[float] = []
    served_rates: list[float] = []
    first_tokens_s: list[float] = []
    beside: dict[str, list[float]] = {other.name: [] for other in others}
    cpu_before_s = served.api_cpu_s
    for number in range(rounds):
        bare_rates.append(bare.measure(workload, seed=1000 * clients + number))
        streams = served.measure(workload, seed=1000 * clients + number, every_piece=False)
        served_rates.append(tokens_per_second(streams))
        first_tokens_s += [stream.first_token_s for stream in streams]
        for other in others:
            seed = 1000 * clients + number
            beside[other.name].append(tokens_per_second(other.measure(workload, seed)))
    return ThroughputRow(
        clients=clients,
        bare=statistics.median(bare_rates),
        served=statistics.median(served_rates),
        ratio=statistics.median(s / b for s, b in zip(served_rates, bare_rates, strict=True)),
        first_token_s=statistics.median(first_tokens_s),
        api_cpu_us_per_token=(served.api_cpu_s - cpu_before_s) / (rounds * workload.tokens) * 1e6,
        beside=tuple((name, statistics.median(rates)) for name, rates in beside.items()),
    )
