"""Workers that hang or run out of memory: found out, told of and replaced, and nobody else is touched."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from collections import Counter
from pathlib import Path

import psutil

from tests.end_to_end.patience import PATIENCE_S, eventually
from tests.fixtures.memory_group import MemoryGroup
from tests.soak.alphabet import Alphabet
from tests.soak.finding import Finding
from tests.soak.fleet import Fleet
from tests.soak.load import Load

_TOKENS = 60
_STALL_S = 1.0
_SPARE_BYTES = 4 << 20
_FAILURES = ("worker_died", "model_unavailable")
WORD_GOAL_S = 1.0


def soak_stops(home: Path, *, count: int = 4) -> Finding:
    """SIGSTOP: the heartbeat ends the worker once it has owed an answer for too long."""
    finding = Finding("stops")
    with Fleet(home, "--parallel", "4", tiny=2, extra={"NIBBLE_STALL_LIMIT_S": str(_STALL_S)}) as fleet:
        fleet.ready_all()
        load = _load(fleet)
        waits_s = asyncio.run(_stop(fleet, load, count))
        _check(finding, fleet, load, deaths=count)
    finding.figures["workers stopped"] = f"{count}, with a heartbeat limit of {_STALL_S:g} s"
    finding.figures["until they were replaced"] = ", ".join(f"{wait:.1f} s" for wait in waits_s)
    return finding


async def _stop(fleet: Fleet, load: Load, count: int) -> list[float]:
    waits_s: list[float] = []
    async with load.running():
        for _ in range(count):
            await _answers(load, fleet.models[0])
            pid = fleet.worker(fleet.models[0])
            assert pid is not None
            began_s = time.monotonic()
            os.kill(pid, signal.SIGSTOP)
            await asyncio.to_thread(
                eventually,
                lambda: fleet.worker(fleet.models[0]),
                lambda seen, pid=pid: seen not in (None, pid),
                "it is replaced",
            )
            waits_s.append(time.monotonic() - began_s)
        await _answers(load, fleet.models[0])
    return waits_s


def soak_memory(home: Path, *, count: int = 4) -> Finding:
    """A worker that may take no more memory than it has: it answers, refuses, or dies and is replaced."""
    finding = Finding("memory")
    # A worker that is confined has a limit already, which nobody can raise.
    with Fleet(home, "--parallel", "4", "--no-confine-workers", tiny=2) as fleet:
        fleet.ready_all()
        load = _load(fleet)
        deaths = asyncio.run(_starve(fleet, load, count))
        _check(finding, fleet, load, deaths=None)
    finding.figures["workers starved"] = f"{count}, of which {deaths} died and were replaced"
    return finding


async def _starve(fleet: Fleet, load: Load, count: int) -> int:
    """Each time with less to spare; what it then cannot do, a prompt with a new grammar asks of it."""
    deaths = 0
    model = fleet.models[0]
    async with load.running():
        for number in range(count):
            await _answers(load, model)
            pid = fleet.worker(model)
            assert pid is not None
            limit = psutil.Process(pid).memory_info().vms + (64 << 20) * (count - number - 1) // count
            resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            for size in (100, 2_000, 60_000):
                body = {"model": model, "prompt": "1", "max_tokens": 2, "regex": f"(ab|{'x' * size}y)+"}
                answer = await asyncio.to_thread(fleet.post, "/v1/completions", body)
                assert answer.status_code in (200, 400, 500, 502, 503), answer.text
                assert answer.status_code == 200 or answer.json()["error"]["code"], answer.text
            await asyncio.sleep(0.5)
            is_dead = fleet.worker(model) != pid
            deaths += is_dead
            if not is_dead:
                resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await _answers(load, model)
    return deaths


def soak_oom(home: Path, *, count: int = 4) -> Finding:
    """The kernel ends a worker that its control group has no more memory for."""
    finding = Finding("oom")
    if hindrance := MemoryGroup.hindrance():
        finding.figures["skipped"] = hindrance
        return finding
    with Fleet(home, "--parallel", "4", tiny=2) as fleet:
        fleet.ready_all()
        load = _load(fleet)
        killed_s = asyncio.run(_run_out(fleet, load, count))
        _check(finding, fleet, load, deaths=count)
    words_s = [
        one.told.ended_s - max((at_s for at_s in killed_s if at_s <= one.told.ended_s), default=killed_s[0])
        for one in load.sung
        if one.told.error == "worker_died"
    ]
    finding.expect(len(words_s) >= count, f"{len(words_s)} streams were told of {count} deaths")
    finding.expect_time(
        max(words_s, default=0) < WORD_GOAL_S, f"a stream was told after {max(words_s, default=0):.2f} s"
    )
    finding.figures["workers ended by the kernel"] = f"{count}, with {_SPARE_BYTES >> 20} MiB to spare"
    finding.figures["streams that were running"] = (
        f"{len(words_s)}, told within {1e3 * max(words_s, default=0):.0f} ms"
    )
    return finding


async def _run_out(fleet: Fleet, load: Load, count: int) -> list[float]:
    """When the kernel ended the first model's worker, each time."""
    model = fleet.models[0]
    killed_s: list[float] = []
    async with load.running():
        for number in range(count):
            await _answers(load, model)
            pid = fleet.worker(model)
            assert pid is not None
            with MemoryGroup(str(number), _SPARE_BYTES) as group:
                group.take(pid)
                # A grammar of its own takes more than there is, whatever the streams take.
                body = {
                    "model": model,
                    "prompt": "1",
                    "max_tokens": 2,
                    "regex": f"(a{'b?c' * 2000}{number})+",
                }
                asked = asyncio.create_task(asyncio.to_thread(fleet.post, "/v1/completions", body))
                killed_s.append(await asyncio.to_thread(group.wait_for_kill))
                answer = await asked
                assert answer.status_code in (200, 400, 503), answer.text
                await asyncio.to_thread(
                    eventually,
                    lambda: fleet.worker(model),
                    lambda seen, pid=pid: seen not in (None, pid),
                    "it is replaced",
                )
        await _answers(load, model)
    return killed_s


def _load(fleet: Fleet) -> Load:
    return Load(fleet, {model: Alphabet(fleet, model) for model in fleet.models}, _TOKENS, width=3)


async def _answers(load: Load, model: str) -> None:
    began_s = time.monotonic()
    while not any(one.told.is_whole and one.told.began_s > began_s for one in load.of(model)[-20:]):
        assert time.monotonic() - began_s < PATIENCE_S, f"{model} does not answer again"
        await asyncio.sleep(0.02)


def _check(finding: Finding, fleet: Fleet, load: Load, *, deaths: int | None) -> None:
    """The first model's streams may fail in two ways, the other's in none."""
    faults = [
        one.told.fault(one.voice, _TOKENS, may_fail=_FAILURES if one.model == fleet.models[0] else ())
        for one in load.sung
    ]
    finding.add_faults("stream", faults)
    counts = Counter("whole" if one.told.is_whole else str(one.told.error) for one in load.sung)
    finding.figures["streams"] = str(dict(counts))
    restarts = fleet.figures()("nibble_worker_restarts_total")
    finding.expect(deaths is None or restarts == deaths, f"{restarts} restarts of {deaths} deaths")
    finding.expect(fleet.status("/health") == 200, "/health")
    finding.expect(not fleet.has_traceback(), "a traceback in the log")
