"""A thousand streams at once: none is lost, none holds a word of another, and the server says that it lives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from tests.soak.alphabet import Alphabet
from tests.soak.client import SoakClient
from tests.soak.finding import Finding
from tests.soak.fleet import Fleet
from tests.soak.health_watch import HealthWatch

_TOKENS = 12
_BUNDLED_TOKENS = 4
_PLACES = 16
_LOOK_S = 2.0
LIMIT_S = 200.0
"""Seconds after which whoever still waits is a fault, and the soak ends."""
HEALTH_GOAL_MS = 200


def soak_streams(
    home: Path,
    *,
    count: int = 1000,
    is_bundled: bool = False,
    tell: Callable[[str], None] = lambda progress: None,
) -> Finding:
    """``tell`` hears every other second how many have ended."""
    with Fleet(
        home, "--parallel", str(_PLACES), "--queue-limit", str(count), tiny=0 if is_bundled else 1
    ) as fleet:
        fleet.ready_all()
        tokens = _BUNDLED_TOKENS if is_bundled else _TOKENS
        finding = asyncio.run(_sing(fleet, count, tokens, tell))
        fleet.wait_until_idle()
        seen = fleet.figures()
        finding.expect(seen("nibble_worker_restarts_total") == 0, "a worker was restarted")
    return finding


async def _sing(fleet: Fleet, count: int, tokens: int, tell: Callable[[str], None]) -> Finding:
    model = fleet.models[0]
    finding = Finding(f"streams ({model})")
    alphabet, client = Alphabet(fleet, model), SoakClient(fleet.port)
    began_s = time.monotonic()
    with HealthWatch(fleet.port) as health:
        asked = [
            asyncio.create_task(
                client.ask(model, alphabet.voice(number), tokens, prompt=_prompt(number), seed=number)
            )
            for number in range(count)
        ]
        waiting = set(asked)
        while waiting and time.monotonic() - began_s < LIMIT_S:
            _, waiting = await asyncio.wait(waiting, timeout=_LOOK_S)
            tell(f"{count - len(waiting)} of {count} streams have ended")
        for task in waiting:
            task.cancel()
        await asyncio.wait(asked)
    told = [task.result() for task in asked if not task.cancelled()]
    faults = [
        f"no end within {LIMIT_S:g} s"
        if task.cancelled()
        else task.result().fault(alphabet.voice(number), tokens)
        for number, task in enumerate(asked)
    ]
    p99_ms = health.percentile_ms(99)
    finding.add_faults("stream", faults)
    finding.add_faults("health", health.faults)
    finding.figures = {
        "streams at once": f"{count} of {tokens} tokens each, of which {sum(one.is_done for one in told)} complete",
        "with a foreign token": str(sum("foreign" in fault for fault in faults)),
        "/health": f"{len(health.seconds)} asked, 99th percentile {p99_ms:.0f} ms, slowest "
        f"{health.percentile_ms(100):.0f} ms",
        "time": f"{time.monotonic() - began_s:.1f} s",
    }
    finding.expect_time(p99_ms < HEALTH_GOAL_MS, f"/health took {p99_ms:.0f} ms at the 99th percentile")
    return finding


def _prompt(number: int) -> list[int]:
    """Tokens that every vocabulary has; no two streams begin alike."""
    return [10 + number % 200, 10 + number // 200, *range(20, 40)]
