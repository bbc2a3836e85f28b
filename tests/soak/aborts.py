"""Ten thousand requests, half of them given up at random: afterwards the server holds what it held before."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.end_to_end.live_server import Resources
from tests.soak.alphabet import Alphabet
from tests.soak.client import LEAVES, SoakClient
from tests.soak.finding import Finding
from tests.soak.fleet import Fleet
from tests.soak.memory_line import MemoryLine

_AT_ONCE = 48
_PLACES = 8
_MOST_TOKENS = 24
_BATCH = 250
LEAK_GOAL_BYTES = 2048
"""A request: what Python's allocator moves about is more than a leak of one object would be over ten thousand."""


@dataclass(slots=True)
class _Storm:
    """The requests of a soak, made up as it goes on. Owned by the event loop."""

    client: SoakClient
    model: str
    alphabet: Alphabet
    choose: random.Random
    faults: list[str] = field(default_factory=list)
    left: int = 0

    async def run(self, first: int, count: int) -> None:
        numbers = iter(range(first, first + count))

        async def work() -> None:
            for number in numbers:
                await self._one(number)

        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))

    async def _one(self, number: int) -> None:
        choose = self.choose
        voice, tokens = self.alphabet.voice(number), choose.randint(1, _MOST_TOKENS)
        leave = choose.choice(LEAVES) if choose.random() < 0.5 else None
        told = await self.client.ask(
            self.model,
            voice,
            tokens,
            prompt=[choose.randint(10, 250) for _ in range(choose.randint(1, 200))],
            seed=number,
            stream=choose.random() < 0.5,
            leave=leave,
            leave_after_s=choose.random() * 0.2,
            reset=choose.random() < 0.5,
        )
        self.left += told.has_left
        if fault := told.fault(voice, tokens):
            self.faults.append(fault)


def soak_aborts(home: Path, *, count: int = 10_000, is_bundled: bool = False, seed: int = 0) -> Finding:
    with Fleet(home, "--parallel", str(_PLACES), tiny=0 if is_bundled else 1) as fleet:
        fleet.ready_all()
        finding = _storm(fleet, count, seed)
        _end(fleet, finding)
    return finding


def _storm(fleet: Fleet, count: int, seed: int) -> Finding:
    model = fleet.models[0]
    finding = Finding(f"aborts ({model})")
    storm = _Storm(SoakClient(fleet.port), model, Alphabet(fleet, model), random.Random(seed))
    workers = fleet.workers()
    asyncio.run(storm.run(0, min(_BATCH, count)))
    fleet.wait_until_idle()
    resources, before_s = Resources(fleet), time.monotonic()
    before, storm.left = resources.count(), 0
    line = MemoryLine([fleet.pid, *workers.values()])
    for first in range(0, count, _BATCH):
        asyncio.run(storm.run(first, min(_BATCH, count - first)))
        fleet.wait_until_idle()
        line.sample(first + _BATCH)
    after = resources.count()
    finding.add_faults("request", storm.faults)
    finding.expect(fleet.workers() == workers, "a worker was replaced")
    for now, then in zip(after, before, strict=True):
        finding.expect(now.fits(then), f"{then} became {now}")
    slopes = line.bytes_per_request()
    finding.expect(
        max(slopes) <= LEAK_GOAL_BYTES or count < 2000, f"memory grows by {max(slopes):.0f} bytes a request"
    )
    finding.figures = {
        "requests": f"{count}, of which {storm.left} were given up, {_AT_ONCE} at a time in {_PLACES} places",
        "places": "all free after every 250",
        "files and threads": f"{[(one.files, one.threads) for one in before]} before, "
        f"{[(one.files, one.threads) for one in after]} after (server, worker)",
        "memory": "server {:+.0f}, worker {:+.0f} bytes a request over the later half".format(*slopes),
        "time": f"{time.monotonic() - before_s:.0f} s",
    }
    return finding


def _end(fleet: Fleet, finding: Finding) -> None:
    """A request that is still counted somewhere would hold up the end, for as long as a drain may take."""
    fleet.signal(signal.SIGTERM)
    finding.expect(fleet.end() == 0, "it did not end with status 0")
    log = fleet.log()
    finding.expect(not fleet.has_traceback(), "a traceback in the log")
    finding.expect(
        "running=0" in log and "ended what was still running" not in log, "a request was still counted"
    )
