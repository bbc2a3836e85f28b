"""``python -m tests.fuzz``: inputs by the million for all that reads what others have written.

Each part is done in rounds, and each round has its own seed, so a part goes on where it was interrupted and any
round can be repeated. What fails is shortened and kept, and the exit status tells of it. ``--guided`` lets atheris
(libFuzzer) look for inputs by coverage instead, one process a target.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.fuzz import campaign
from tests.fuzz.gguf_campaign import MUTANTS_A_ROUND, GgufCampaign
from tests.fuzz.guided import run_guided
from tests.fuzz.progress import Part, Progress
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

GGUF = "gguf"
_RUNS = 1_000_000
_MUTANTS = 100_000
_RUNS_A_ROUND = 20_000


def main() -> int:
    options = _options()
    console = Console()
    progress = Progress(options.keep / "progress.json", is_fresh=options.fresh)
    parts = options.parts or [*TARGETS, GGUF]
    is_interrupted = False
    try:
        for name in parts:
            if options.guided:
                _guide(console, name, options)
            else:
                _run_part(console, name, progress, options)
    except KeyboardInterrupt:
        is_interrupted = True
        console.print("interrupted; the same command goes on from here")
    if options.guided:
        return 130 if is_interrupted else 0
    console.print(_table(progress))
    failed = sum(len(part.failures) for part in progress.parts.values())
    if failed:
        console.print(f"{failed} inputs failed; they are in {options.keep}")
    return 130 if is_interrupted else 1 if failed else 0


def _run_part(console: Console, name: str, progress: Progress, options: argparse.Namespace) -> None:
    part = progress.part(name)
    wanted = options.runs or (_MUTANTS if name == GGUF else TARGETS[name].runs or _RUNS)
    round_ = _gguf_round if name == GGUF else _target_round(TARGETS[name])
    with console.status("") as status:
        while part.runs < wanted and len(part.failures) < campaign.MOST_FAILURES:
            if time.monotonic() > options.ends_s:
                break

            def tell(runs: int) -> None:
                status.update(f"{name}: {part.runs + runs:,} of {wanted:,}, {len(part.failures)} failed")

            tell(0)
            round_(part, wanted - part.runs, options, tell)
            part.rounds += 1
            progress.save()
    console.print(_line(name, part))


Round = Callable[[Part, int, argparse.Namespace, Callable[[int], None]], None]


def _target_round(target: Target) -> Round:
    def one(part: Part, most: int, options: argparse.Namespace, tell: Callable[[int], None]) -> None:
        outcome = campaign.run(
            target,
            runs=min(most, _RUNS_A_ROUND),
            seed=options.seed * 1_000_003 + part.rounds,
            tell=lambda outcome: tell(outcome.runs),
            keep=options.keep,
        )
        part.runs += outcome.runs
        part.seconds += outcome.seconds
        part.slowest_s = max(part.slowest_s, outcome.slowest_s)
        part.most_grown_bytes = max(part.most_grown_bytes, outcome.grown_bytes)
        part.failures += [failure.reason for failure in outcome.failures]
        if outcome.grown_bytes > campaign.GROWTH_LIMIT_BYTES:
            part.failures.append(f"it grew by {outcome.grown_bytes} bytes in one round")

    return one


def _gguf_round(part: Part, most: int, options: argparse.Namespace, tell: Callable[[int], None]) -> None:
    outcome = GgufCampaign(options.keep).run(
        min(most, MUTANTS_A_ROUND), seed=options.seed * 1_000_003 + part.rounds, tell=tell
    )
    part.runs += outcome.mutants
    part.seconds += outcome.seconds
    for kind, count in outcome.counts.items():
        part.counts[kind] = part.counts.get(kind, 0) + count
    part.failures += outcome.failures


def _guide(console: Console, name: str, options: argparse.Namespace) -> None:
    if name == GGUF:
        return
    runs = options.runs or TARGETS[name].runs or _RUNS
    console.print(f"{name}: {run_guided(name, runs=runs, seed=options.seed, keep=options.keep)}")


def _line(name: str, part: Part) -> str:
    rate = part.runs / max(part.seconds, 1e-9)
    counts = "".join(f", {count:,} {kind}" for kind, count in sorted(part.counts.items()))
    failed = f"{len(part.failures)} FAILED, first: {part.failures[0]}" if part.failures else "none failed"
    return f"{name}: {part.runs:,} runs, {rate:,.0f}/s{counts}: {failed}"


def _table(progress: Progress) -> Table:
    table = Table(title="so far")
    for heading in ("part", "runs", "failed", "a second", "slowest", "most grown in a round", "outcomes"):
        table.add_column(heading, justify="left" if heading in ("part", "outcomes") else "right")
    for name, part in progress.parts.items():
        table.add_row(
            name,
            f"{part.runs:,}",
            str(len(part.failures)),
            f"{part.runs / max(part.seconds, 1e-9):,.0f}",
            f"{part.slowest_s * 1e3:.0f} ms" if part.slowest_s else "",
            f"{part.most_grown_bytes / 2**20:.1f} MiB" if name != GGUF else "",
            ", ".join(f"{count:,} {kind}" for kind, count in sorted(part.counts.items())),
        )
    return table


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        choices=[*TARGETS, GGUF, []],
        help=f"which to run (all): {', '.join([*TARGETS, GGUF])}",
    )
    parser.add_argument(
        "--runs", type=int, help=f"inputs of each part ({_RUNS:,}; {_MUTANTS:,} of {GGUF})", metavar="N"
    )
    parser.add_argument("--seed", type=int, default=0, help="another campaign (%(default)s)", metavar="N")
    parser.add_argument(
        "--seconds", type=float, help="begin no round after so long; the next run goes on", metavar="N"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what was done before")
    parser.add_argument("--guided", action="store_true", help="guided by coverage, through atheris")
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path(".cache/fuzz"),
        metavar="DIR",
        help="progress and failures (%(default)s)",
    )
    options = parser.parse_args()
    options.ends_s = math.inf if options.seconds is None else time.monotonic() + options.seconds
    return options


if __name__ == "__main__":
    sys.exit(main())
