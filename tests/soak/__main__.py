"""``python -m tests.soak``: real servers and real workers, under load and hurt, for as long as it takes.

Each part starts servers of its own with tiny generated models, or with the bundled one (``--bundled``), prints what
it found, and appends it to a report. The exit status tells whether all was as promised.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tests.soak.aborts import soak_aborts
from tests.soak.cases import soak_cases
from tests.soak.drain import soak_drain
from tests.soak.faults import soak_faults
from tests.soak.finding import Finding
from tests.soak.kills import soak_kills
from tests.soak.refusals import soak_refusals
from tests.soak.sockets import soak_sockets
from tests.soak.stops import soak_memory, soak_oom, soak_stops
from tests.soak.streams import soak_streams

_PARTS = {
    "streams": 1000,
    "refusals": 500,
    "aborts": 10_000,
    "kills": 100,
    "stops": 4,
    "memory": 4,
    "oom": 4,
    "drain": 100,
    "sockets": 900,
    "cases": 20_000,
    "faults": 1,
}
"""How often each part does what it does."""
_ON_BUNDLED = ("streams", "aborts")


def main() -> int:
    options = _options()
    console = Console(soft_wrap=True)
    findings: list[Finding] = []
    try:
        for name in options.parts or (_ON_BUNDLED if options.bundled else _PARTS):
            home = Path(tempfile.mkdtemp(prefix=f"nibble-soak-{name}-"))
            began_s = time.monotonic()
            try:
                with console.status(f"{name} ...") as status:
                    found = _soak(name, options, status.update)(home / "home")
            except KeyboardInterrupt:
                shutil.rmtree(home, ignore_errors=True)
                raise
            findings.append(found)
            console.print(f"{found}\n  took {time.monotonic() - began_s:.0f} s", highlight=False)
            options.report.parent.mkdir(parents=True, exist_ok=True)
            with options.report.open("a", encoding="utf-8") as report:
                report.write(f"{found}\n")
            if not found.is_sound:
                console.print(f"  what it left is in {home}")
            else:
                shutil.rmtree(home)
    except KeyboardInterrupt:
        console.print("interrupted; parts that had ended are in the report")
        return 130
    faulty = [found.part for found in findings if not found.is_sound]
    console.print(
        f"{len(findings)} parts: " + (f"FAULTS in {', '.join(faulty)}" if faulty else "all as promised")
    )
    return 1 if faulty else 0


def _soak(name: str, options: argparse.Namespace, tell: Callable[[str], None]) -> Callable[[Path], Finding]:
    count = options.count or _PARTS[name]
    if options.bundled and name not in _ON_BUNDLED:
        raise SystemExit(f"{name} needs several models: leave out --bundled")
    parts: dict[str, Callable[[Path], Finding]] = {
        "streams": lambda home: soak_streams(home, count=count, is_bundled=options.bundled, tell=tell),
        "refusals": lambda home: soak_refusals(home, count=count),
        "aborts": lambda home: soak_aborts(home, count=count, is_bundled=options.bundled, seed=options.seed),
        "kills": lambda home: soak_kills(home, count=count, seed=options.seed),
        "stops": lambda home: soak_stops(home, count=count),
        "memory": lambda home: soak_memory(home, count=count),
        "oom": lambda home: soak_oom(home, count=count),
        "drain": lambda home: soak_drain(home, count=count),
        "sockets": lambda home: soak_sockets(home, count=count),
        "cases": lambda home: soak_cases(home, count=count),
        "faults": soak_faults,
    }
    return parts[name]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    known = ", ".join(f"{name} ({count:,})" for name, count in _PARTS.items())
    parser.add_argument(
        "parts", nargs="*", metavar="PART", choices=[*_PARTS, []], help=f"which to run (all): {known}"
    )
    parser.add_argument("--count", type=int, help="requests, kills or cases of each part", metavar="N")
    parser.add_argument("--bundled", action="store_true", help="with the bundled model: streams and aborts")
    parser.add_argument("--seed", type=int, default=0, help="other random choices (%(default)s)", metavar="N")
    parser.add_argument(
        "--report",
        type=Path,
        default=Path(".cache/soak.txt"),
        metavar="FILE",
        help="append what is found (%(default)s)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
