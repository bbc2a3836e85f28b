"""``python -m benchmarks``: served speed beside the bare library's, in one run."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.throughput import ThroughputRow, measure_throughput
from model_registry.sources.bundled import locate_bundled


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--clients", default="1,8,16", help="numbers of clients, with commas between (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns that each side takes (%(default)s)")
    parser.add_argument(
        "--parallel", type=int, default=16, help="sequences at once, on both sides (%(default)s)"
    )
    options = parser.parse_args()
    model_path = locate_bundled()
    if model_path is None:
        raise SystemExit("the bundled model is not installed: run 'make setup'")
    clients = [int(count) for count in options.clients.split(",")]
    console = Console()
    console.print(describe_machine())
    with console.status("bare library and server take turns ..."):
        rows = measure_throughput(str(model_path), clients, rounds=options.rounds, parallel=options.parallel)
    console.print(_table(rows))


def _table(rows: list[ThroughputRow]) -> Table:
    table = Table(title="unique prompts, 96 tokens in, 64 out: tokens generated a second, prefill included")
    for heading in (
        "clients",
        "bare library",
        "served",
        "ratio",
        "first token, median s",
        "API CPU us/token",
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            str(row.clients),
            f"{row.bare:.0f}",
            f"{row.served:.0f}",
            f"{row.ratio:.2f}",
            f"{row.first_token_s:.2f}",
            f"{row.api_cpu_us_per_token:.0f}",
        )
    return table


if __name__ == "__main__":
    main()
