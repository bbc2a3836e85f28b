"""``python -m benchmarks``: what nibble serves beside what the bare library computes, in one run.

Each workload is measured by turns and told as a ratio. The result is printed, and kept with a description of
the machine: a table and the figures behind it, and a plot.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.bare_loop import BareLoop
from benchmarks.builds import measure_builds
from benchmarks.chat_turns import measure_chat_turns
from benchmarks.figures import measure_figures
from benchmarks.first_token import measure_first_token
from benchmarks.gap import measure_gap
from benchmarks.idle import measure_idle
from benchmarks.machine import describe_machine
from benchmarks.other_server import OtherServer
from benchmarks.queue_flood import measure_queue_flood
from benchmarks.repetition import measure_repetition
from benchmarks.report import write_report
from benchmarks.result import Result
from benchmarks.served import ServedModel
from benchmarks.shared_head import measure_shared_head
from benchmarks.startup import measure_startup
from benchmarks.structured import measure_structured
from benchmarks.swaps import measure_swaps
from benchmarks.throughput import ThroughputRow, measure_throughput, throughput_results
from benchmarks.workload import Workload
from model_registry.sources.bundled import locate_bundled

_CONTEXT = 2048


class Bench:
    """The processes under measurement, started when a workload first needs them. Use as a context manager's guest."""

    def __init__(self, stack: ExitStack, options: argparse.Namespace) -> None:
        self._stack = stack
        self._options = options
        self._bare: BareLoop | None = None
        self._served: ServedModel | None = None
        self._plain: ServedModel | None = None
        self.rounds: int = options.rounds
        self.portable: Path | None = options.portable

    @property
    def bare(self) -> BareLoop:
        if self._bare is None:
            self._bare = BareLoop(
                str(self.model),
                width=self._options.parallel,
                slot_tokens=_CONTEXT,
                flash_attention=self._options.bare_attention,
            )
            self._stack.enter_context(self._bare)
        return self._bare

    @property
    def model(self) -> Path:
        path = locate_bundled()
        if path is None:
            raise SystemExit("the bundled model is not installed: run 'make setup'")
        return path

    @property
    def served(self) -> ServedModel:
        if self._served is None:
            self._served = self._serve()
        return self._served

    @property
    def plain(self) -> ServedModel:
        """A server that does not guess ahead."""
        if self._plain is None:
            self._plain = self._serve("--no-speculation")
        return self._plain

    def _serve(self, *arguments: str) -> ServedModel:
        parallel = str(self._options.parallel)
        served = ServedModel(
            "--parallel", parallel, "--context", str(_CONTEXT), "--queue-limit", "4096", *arguments
        )
        self._stack.enter_context(served)
        served.measure(Workload(1, 1, answer_tokens=8), seed=0)
        return served


def main() -> None:
    options = _options()
    console = Console()
    machine = describe_machine()
    console.print(machine)
    rows: list[ThroughputRow] = []
    results: list[Result] = []
    with ExitStack() as stack:
        bench = Bench(stack, options)

        def throughput() -> Iterator[Result]:
            clients = [int(count) for count in options.clients.split(",")]
            rows.extend(
                measure_throughput(
                    bench.bare, bench.served, clients, rounds=bench.rounds, others=options.beside
                )
            )
            yield from throughput_results(rows)

        for name, measure in _workloads(bench, throughput).items():
            if options.only and name not in options.only:
                continue
            with console.status(f"{name} ..."):
                for result in measure():
                    results.append(result)
                    console.print(
                        f"{'met   ' if result.is_met else 'MISSED'} {result.workload}: {result.figure}"
                    )
    console.print(_table(results))
    if options.keep:
        console.print(f"kept in {write_report(options.keep, machine, results, rows)}")


def _model() -> str:
    path = locate_bundled()
    if path is None:
        raise SystemExit("the bundled model is not installed: run 'make setup'")
    return str(path)


def _workloads(
    bench: Bench, throughput: Callable[[], Iterator[Result]]
) -> dict[str, Callable[[], Iterator[Result] | list[Result]]]:
    rounds = bench.rounds
    portable = bench.portable
    return {
        "startup": lambda: [measure_startup(rounds=rounds)],
        "throughput": throughput,
        "first-token": lambda: [measure_first_token(bench.bare, bench.served, rounds=rounds)],
        "gap": lambda: [measure_gap(bench.served, rounds=rounds)],
        "shared-head": lambda: [measure_shared_head(bench.bare, bench.served, rounds=rounds)],
        "chat": lambda: [measure_chat_turns(bench.served)],
        "repetition": lambda: measure_repetition(bench.served, bench.plain, rounds=rounds),
        "structured": lambda: measure_structured(bench.served, rounds=rounds),
        "queue": lambda: [measure_queue_flood(bench.served)],
        "swaps": lambda: [measure_swaps(bench.model)],
        "idle": lambda: [measure_idle(bench.served)],
        "figures": lambda: [measure_figures(bench.served)],
        **({"builds": lambda: measure_builds(str(bench.model), portable, rounds=rounds)} if portable else {}),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="WORKLOAD", help="which to measure (all of them)")
    parser.add_argument(
        "--clients", default="1,8,16", help="numbers of clients, with commas between (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns that each side takes (%(default)s)")
    parser.add_argument(
        "--parallel", type=int, default=16, help="sequences at once, on both sides (%(default)s)"
    )
    parser.add_argument(
        "--bare-attention",
        choices=("auto", "on", "off"),
        default="auto",
        help="flash attention in the bare library; auto is its own choice, while the server tries both (%(default)s)",
    )
    parser.add_argument(
        "--beside",
        type=_other_server,
        action="append",
        default=[],
        metavar="NAME=URL",
        help="a running server with OpenAI's API and the same model, measured in the same rounds (repeatable)",
    )
    parser.add_argument(
        "--portable",
        type=Path,
        metavar="PYTHON",
        help="of an environment with another build of llama.cpp: adds the workload builds, which compares the two",
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep the table, the figures and a plot there"
    )
    return parser.parse_args()


def _other_server(told: str) -> OtherServer:
    try:
        return OtherServer.of(told)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _table(results: list[Result]) -> Table:
    table = Table(title="SmolLM2-135M-Instruct Q4_1")
    for heading in ("workload", "measured", "goal", "met", "detail"):
        table.add_column(heading, overflow="fold")
    for result in results:
        met = "yes" if result.is_met else "no"
        table.add_row(result.workload, result.figure, result.goal, met, result.detail)
    return table


if __name__ == "__main__":
    main()
