"""SIGTERM under load: every answer that was begun comes to its end, or is told why not; nothing ends without a word."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

import httpx

from tests.end_to_end.patience import eventually
from tests.soak.alphabet import Alphabet
from tests.soak.client import SoakClient, Told
from tests.soak.finding import Finding
from tests.soak.fleet import Fleet

_SHORT, _LONG = 30, 400
_PLACES = 8
_REFUSED = ("model_unavailable",)


def soak_drain(home: Path, *, count: int = 100, drain_s: float = 30.0) -> Finding:
    """With the usual time to drain, all is answered; with none to speak of, what is not is ended with an error."""
    finding = Finding("drain")
    for name, seconds, tokens in (("patient", drain_s, _SHORT), ("hurried", 0.2, _LONG)):
        with Fleet(
            home / name, "--parallel", str(_PLACES), tiny=1, extra={"NIBBLE_DRAIN_S": str(seconds)}
        ) as fleet:
            fleet.ready_all()
            _drain(fleet, finding, name, count, tokens)
    return finding


def _drain(fleet: Fleet, finding: Finding, name: str, count: int, tokens: int) -> None:
    alphabet = Alphabet(fleet, fleet.models[0])
    workers = fleet.workers()
    told, late, began_s = asyncio.run(_end_under_load(fleet, alphabet, count, tokens))
    status = fleet.end()
    took_s = time.monotonic() - began_s
    may_fail = () if name == "patient" else _REFUSED
    faults = [one.fault(alphabet.voice(number), tokens, may_fail=may_fail) for number, one in enumerate(told)]
    finding.add_faults(f"{name}: request", faults)
    finding.add_faults(f"{name}: late request", [_late_fault(one) for one in late])
    finding.expect(status == 0, f"{name}: exit status {status}")
    finding.expect(not fleet.has_traceback(), f"{name}: a traceback in the log")
    finding.expect(
        not any(Path(f"/proc/{pid}").exists() for pid in workers.values()), f"{name}: a worker outlived it"
    )
    counts = Counter("whole" if one.is_whole else str(one.error) for one in told)
    finding.figures[name] = (
        f"{count} requests at SIGTERM: {dict(counts)}; {len(late)} that came later: "
        f"{dict(Counter(one.status or 'no connection' for one in late))}; ended after {took_s:.1f} s with {status}"
    )


async def _end_under_load(
    fleet: Fleet, alphabet: Alphabet, count: int, tokens: int
) -> tuple[list[Told], list[Told], float]:
    client, model = SoakClient(fleet.port), fleet.models[0]

    def ask(number: int) -> asyncio.Task[Told]:
        prompt = [10 + number % 200, *range(20, 60)]
        return asyncio.create_task(
            client.ask(model, alphabet.voice(number), tokens, prompt=prompt, stream=number % 2 == 0)
        )

    asked = [ask(number) for number in range(count)]
    # All of them are in the engine: what has not been received yet may be refused, and then rightly.
    await asyncio.to_thread(
        eventually,
        lambda: fleet.figures(),
        lambda seen: seen.running + seen.waiting + sum(one.done() for one in asked) >= count,
        "all requests have arrived",
    )
    began_s = time.monotonic()
    fleet.signal(signal.SIGTERM)
    await asyncio.to_thread(
        eventually, lambda: _status(fleet, "/ready"), lambda seen: seen != 200, "/ready is not 200"
    )
    late = await asyncio.gather(*(_ask_late(ask(number)) for number in range(10)))
    return list(await asyncio.gather(*asked)), list(late), began_s


def _status(fleet: Fleet, path: str) -> int:
    try:
        return fleet.http.get(path).status_code
    except httpx.TransportError:
        return 0


async def _ask_late(asked: asyncio.Task[Told]) -> Told:
    try:
        return await asked
    except OSError:
        return Told(time.monotonic())


def _late_fault(told: Told) -> str:
    return "" if told.status in (0, 503) else f"status {told.status}"
