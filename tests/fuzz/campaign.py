"""Many runs of one target: bounded in time and memory each, counted, and what fails is kept."""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.fuzz.mutator import Mutator
from tests.fuzz.target import Target

RUN_LIMIT_S = 1.0
"""CPU seconds that one input of at most a few kilobytes may take."""
GROWTH_LIMIT_BYTES = 96 << 20
"""By which the process may grow over a whole campaign, caches included."""
MOST_FAILURES = 20
_SHORTENINGS = 400
_GOES = 5


@dataclass(slots=True)
class Failure:
    data: bytes
    reason: str


@dataclass(slots=True)
class Outcome:
    """What a campaign did."""

    target: str
    runs: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    grown_bytes: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        return not self.failures and self.grown_bytes <= GROWTH_LIMIT_BYTES

    def __str__(self) -> str:
        rate = self.runs / max(self.seconds, 1e-9)
        found = "nothing failed" if not self.failures else f"{len(self.failures)} FAILED"
        return (
            f"{self.target:<18} {self.runs:>9,} runs in {self.seconds:>6.0f} s ({rate:>7,.0f}/s), slowest "
            f"{self.slowest_s * 1e3:.0f} ms, grown {self.grown_bytes / 2**20:.0f} MiB: {found}"
        )


def run(
    target: Target,
    *,
    runs: int,
    seed: int,
    tell: Callable[[Outcome], None] = lambda outcome: None,
    keep: Path | None = None,
) -> Outcome:
    """Give ``target`` its seeds, then what is made of them. Stops early after so many failures.

    ``tell`` hears of the progress every second; failing inputs are shortened and written to ``keep``.
    """
    outcome = Outcome(target.name)
    mutator = Mutator(target.seeds, target.words, seed)
    process = psutil.Process()
    started_s = told_s = time.monotonic()
    before = process.memory_info().rss
    # The first thousands fill caches, which is no leak.
    settled_at = max(1000, runs // 10)
    for number in range(runs):
        data = target.seeds[number] if number < len(target.seeds) else mutator.next()
        _try(target, data, outcome, keep)
        outcome.runs += 1
        if number == settled_at:
            before = process.memory_info().rss
        if len(outcome.failures) >= MOST_FAILURES:
            break
        if number % 256 == 0 and (now_s := time.monotonic()) - told_s > 1.0:
            told_s = now_s
            outcome.seconds = now_s - started_s
            tell(outcome)
    outcome.seconds = time.monotonic() - started_s
    outcome.grown_bytes = max(0, process.memory_info().rss - before)
    return outcome


def _try(target: Target, data: bytes, outcome: Outcome, keep: Path | None) -> None:
    reason, took_s = _run(target, data)
    if reason:
        data = _shortest(target, data, reason)
    else:
        # The quickest of a few goes: a machine may be busy, or a collection of garbage fall into one of them.
        for _ in range(_GOES - 1):
            if took_s <= RUN_LIMIT_S:
                break
            took_s = min(took_s, _run(target, data)[1])
        if took_s > RUN_LIMIT_S:
            reason = f"it took {took_s:.1f} s"
    outcome.slowest_s = max(outcome.slowest_s, took_s)
    if reason:
        outcome.failures.append(Failure(data, reason))
        if keep is not None:
            keep_input(keep, target, data, reason)


def _run(target: Target, data: bytes) -> tuple[str, float]:
    """Why it failed, if it did, and its CPU seconds."""
    began_s = time.process_time()
    reason = reason_of(target, data)
    return reason, time.process_time() - began_s


def reason_of(target: Target, data: bytes) -> str:
    """Why ``data`` fails; empty if it does not. The end of the traceback, by which failures are told apart."""
    try:
        target.check(data)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}: {error}"
    return ""


def _place(reason: str) -> str:
    return ":".join(reason.split(":")[:2])


def _shortest(target: Target, data: bytes, reason: str) -> bytes:
    """``data`` without what it fails as well without."""
    size, tries = max(1, len(data) // 2), 0
    while size and tries < _SHORTENINGS:
        at = 0
        while at < len(data) and tries < _SHORTENINGS:
            shorter = data[:at] + data[at + size :]
            tries += 1
            if _place(reason_of(target, shorter)) == _place(reason):
                data = shorter
            else:
                at += size
        size //= 2
    return data


def keep_input(keep: Path, target: Target, data: bytes, reason: str) -> Path:
    keep.mkdir(parents=True, exist_ok=True)
    path = keep / f"{target.name}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(f"{reason}\n")
    return path
