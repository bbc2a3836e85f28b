"""Connections that bring nothing, half of something, or never read: held no longer than allowed, and harmless."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from pathlib import Path

from tests.end_to_end.live_server import Resources
from tests.end_to_end.patience import PATIENCE_S, eventually
from tests.soak.alphabet import Alphabet
from tests.soak.client import SoakClient
from tests.soak.finding import Finding
from tests.soak.fleet import CONTEXT, Fleet
from tests.soak.health_watch import HealthWatch

_LIMIT_S = 4.0
_HEALTH_GOAL_MS = 200
_HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


def soak_sockets(home: Path, *, count: int = 900) -> Finding:
    """A third says nothing, a third half of its headers, a third half of its body; a few ask and never read."""
    finding = Finding("sockets")
    limits = {f"NIBBLE_{name}_TIMEOUT_S": str(_LIMIT_S) for name in ("HEADER", "BODY", "SEND")}
    with Fleet(home, "--parallel", "4", tiny=1, extra=limits) as fleet:
        fleet.ready_all()
        resources = Resources(fleet)
        before = resources.count()
        asyncio.run(_hold(fleet, finding, count))
        fleet.wait_until_idle()
        eventually(
            resources.count,
            lambda seen: all(now.fits(then) for now, then in zip(seen, before, strict=True)),
            f"files and threads are back near {before}",
        )
        finding.expect(not fleet.has_traceback(), "a traceback in the log")
    return finding


async def _hold(fleet: Fleet, finding: Finding, count: int) -> None:
    model = fleet.models[0]
    alphabet, client = Alphabet(fleet, model), SoakClient(fleet.port)
    beginnings = (b"", _HEAD, _HEAD + b"content-length: 1000\r\n\r\n{")
    opened = [await asyncio.open_connection("127.0.0.1", fleet.port) for _ in range(count)]
    began_s = time.monotonic()
    for number, (_, writer) in enumerate(opened):
        writer.write(beginnings[number % len(beginnings)])
    deaf = [_ask_and_never_read(fleet, model) for _ in range(max(2, count // 100))]
    with HealthWatch(fleet.port) as health:
        asked = asyncio.gather(
            *(client.ask(model, alphabet.voice(n), 20, prompt=[10 + n, 20]) for n in range(50))
        )
        # Each of them ends by the server's hand; the soak's own patience is what would end this otherwise.
        async with asyncio.timeout(PATIENCE_S):
            ends = [await _read_to_end(reader) for reader, _ in opened]
        held_s = time.monotonic() - began_s
        told = await asked
    for _, writer in opened:
        writer.close()
    for one in deaf:
        one.close()
    p99_ms = health.percentile_ms(99)
    finding.add_faults("request", [one.fault(alphabet.voice(n), 20) for n, one in enumerate(told)])
    finding.add_faults("health", health.faults)
    finding.expect_time(p99_ms < _HEALTH_GOAL_MS, f"/health took {p99_ms:.0f} ms at the 99th percentile")
    answered = sum(b" 408 " in end for end in ends)
    finding.expect(answered == 2 * count // 3, f"{answered} of {2 * count // 3} were told that they are late")
    finding.figures = {
        "connections held open": f"{count}, all closed by the server within {held_s:.1f} s (limit {_LIMIT_S} s)",
        "told that they are late": f"{answered}; those that brought nothing are closed without a word",
        "clients that never read": f"{len(deaf)}, whose places are free again",
        "other requests meanwhile": f"{sum(one.is_whole for one in told)} of {len(told)} whole",
        "/health": f"99th percentile {p99_ms:.0f} ms, slowest {health.percentile_ms(100):.0f} ms",
    }


def _ask_and_never_read(fleet: Fleet, model: str) -> socket.socket:
    """A stream of several choices into a socket with room for next to nothing."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    made.connect(("127.0.0.1", fleet.port))
    body = {
        "model": model,
        "prompt": "1",
        "n": 4,
        "max_tokens": CONTEXT - 20,
        "ignore_eos": True,
        "stream": True,
    }
    raw = json.dumps(body).encode()
    made.sendall(_HEAD + b"content-length: %d\r\n\r\n" % len(raw) + raw)
    return made


async def _read_to_end(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionResetError):
        return await reader.read(-1)
    return b""
