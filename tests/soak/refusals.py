"""A full queue: whoever comes then is refused at once, told when to come again, and those who wait are served."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

from tests.soak.alphabet import Alphabet
from tests.soak.client import SoakClient, Told
from tests.soak.finding import Finding
from tests.soak.fleet import Fleet

_PLACES = 2
_QUEUE = 6
_LONG_TOKENS = 400
_PROMPT = list(range(20, 40))
REFUSAL_GOAL_MS = 100


def soak_refusals(home: Path, *, count: int = 500) -> Finding:
    with Fleet(home, "--parallel", str(_PLACES), "--queue-limit", str(_QUEUE), tiny=1) as fleet:
        fleet.ready_all()
        finding = asyncio.run(_refuse(fleet, count))
        fleet.wait_until_idle()
    return finding


async def _refuse(fleet: Fleet, count: int) -> Finding:
    """One request after the other while the queue is full; it is filled again whenever it was emptied."""
    model, finding = fleet.models[0], Finding("refusals")
    alphabet, client = Alphabet(fleet, model), SoakClient(fleet.port)
    kept: list[asyncio.Task[Told]] = []
    refused: list[Told] = []
    began_s = time.monotonic()
    while len(refused) < count:
        while sum(not task.done() for task in kept) < _PLACES + _QUEUE:
            kept.append(
                asyncio.create_task(
                    client.ask(model, alphabet.voice(0), _LONG_TOKENS, prompt=_PROMPT, seed=1)
                )
            )
            await asyncio.sleep(0)
        told = await client.ask(model, alphabet.voice(1), 1, prompt=_PROMPT)
        if told.error == "queue_full":
            refused.append(told)
    waited = await asyncio.gather(*kept)
    finding.add_faults(
        "stream", [one.fault(alphabet.voice(0), _LONG_TOKENS, may_fail=("queue_full",)) for one in waited]
    )
    finding.add_faults(
        "refusal",
        [
            f"status {one.status}, Retry-After: {one.retry_after}"
            for one in refused
            if one.status != 503 or not one.retry_after
        ],
    )
    took_ms = sorted(1e3 * (one.ended_s - one.began_s) for one in refused)
    finding.expect_time(took_ms[-1] < REFUSAL_GOAL_MS, f"a refusal took {took_ms[-1]:.0f} ms")
    finding.figures = {
        "refused": f"{len(refused)} with 503 queue_full and Retry-After, while {_PLACES} ran and {_QUEUE} waited",
        "took": f"half {took_ms[len(took_ms) // 2]:.1f} ms, 99th percentile "
        f"{took_ms[len(took_ms) * 99 // 100]:.1f} ms, slowest {took_ms[-1]:.1f} ms",
        "streams that ran and waited": str(dict(Counter(one.error or "whole" for one in waited))),
        "time": f"{time.monotonic() - began_s:.1f} s",
    }
    return finding
