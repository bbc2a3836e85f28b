"""Workers that are killed, stopped, orphaned and looked into: real processes, and nobody else is touched."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from engine import restart_policy
from engine.engine import Engine
from engine.errors import NibbleError, RequestQuarantined, WorkerDied
from engine.events import Event, Piece
from tests.engine.real import (
    STORY,
    answer,
    asking,
    is_gone,
    model_path,
    real_config,
    until,
    workers_of_this_process,
)
from tests.fakes.steps import steps

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]

_SECRET = "NIBBLE_TEST_SECRET"
_ROOT = Path(__file__).resolve().parents[2]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Engine]:
    """An engine that is killed now and then, and soon started again, in an environment with a secret."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_SECRET, "hunter2")
        patch.setattr(restart_policy, "FIRST_DELAY_S", 0.05)
        engine = await Engine.start(real_config())
        yield engine
        await engine.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def neighbour() -> AsyncIterator[Engine]:
    engine = await Engine.start(real_config(parallel=2, context=512))
    yield engine
    await engine.stop()


def _pid(engine: Engine) -> int:
    assert engine.worker_pid is not None
    return engine.worker_pid


async def _serves_again(engine: Engine, after: int) -> None:
    await until(lambda: engine.is_ready and engine.restarts == after, 30.0)
    assert (await answer(engine, asking(max_tokens=2))).end.completion_tokens == 2


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc")
async def test_a_worker_knows_no_secret_of_its_parent(engine: Engine) -> None:
    raw = await asyncio.to_thread(Path(f"/proc/{_pid(engine)}/environ").read_bytes)
    assert b"hunter2" not in raw
    assert _SECRET.encode() not in raw
    assert b"PATH=" in raw


async def test_a_worker_listens_nowhere_and_is_not_in_our_process_group(engine: Engine) -> None:
    worker = psutil.Process(_pid(engine))
    assert worker.net_connections("inet") == []
    assert os.getpgid(worker.pid) != os.getpgid(0)


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="there is no /proc")
async def test_a_worker_is_confined_and_answers(engine: Engine) -> None:
    assert (await answer(engine, asking(max_tokens=2))).end.completion_tokens == 2
    proc = Path(f"/proc/{_pid(engine)}")
    status = dict(
        line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line
    )
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    limits = {line[:26].strip(): line[26:].split() for line in (proc / "limits").read_text().splitlines()}
    assert limits["Max core file size"][:2] == ["0", "0"]
    assert int(limits["Max open files"][1]) <= 1024
    mapped = int(status["VmSize"].split()[0]) * 1024
    assert mapped < int(limits["Max address space"][1]) < mapped + (6 << 30)


async def test_a_request_that_sees_two_deaths_is_kept_from_the_third_worker(
    engine: Engine, neighbour: Engine
) -> None:
    killer = asking("Kill the process that reads this.", max_tokens=400, ignore_eos=True)
    for _ in range(2):
        restarts = engine.restarts
        stream = steps(engine, killer)
        async for events in stream:
            if isinstance(events[0], Piece):
                break
        os.kill(_pid(engine), signal.SIGKILL)
        assert isinstance(await _read_to_failure(stream), WorkerDied)
        await _serves_again(engine, restarts + 1)
    pid = _pid(engine)
    with pytest.raises(RequestQuarantined):
        await answer(engine, killer)
    assert (await answer(engine, asking(max_tokens=2))).end.completion_tokens == 2
    assert _pid(engine) == pid
    assert (await answer(neighbour, asking("Kill the process", max_tokens=2))).end.completion_tokens == 2


async def test_a_killed_worker_fails_its_streams_at_once_and_no_others(
    engine: Engine, neighbour: Engine
) -> None:
    restarts, stalls = engine.restarts, engine.stalls
    other = asyncio.ensure_future(answer(neighbour, asking(max_tokens=40, ignore_eos=True)))
    streams = [steps(engine, asking(f"{n} {STORY}", max_tokens=400, ignore_eos=True)) for n in range(6)]
    readers = [asyncio.ensure_future(_read_to_failure(stream)) for stream in streams]
    await until(lambda: engine.stats.running == 4 and engine.stats.waiting == 2, 30.0)
    os.kill(_pid(engine), signal.SIGKILL)
    # A guard and no measurement: the watch for workers that stand still would take far longer.
    async with asyncio.timeout(10.0):
        failures = await asyncio.gather(*readers)
    assert all(isinstance(failure, WorkerDied) for failure in failures)
    assert "SIGKILL" in str(failures[0])
    told = await other
    assert told.end.completion_tokens == 40
    assert neighbour.restarts == 0
    await _serves_again(engine, restarts + 1)
    assert engine.stalls == stalls, "it died of itself"
    assert engine.stats.running == 0


async def _read_to_failure(stream: AsyncGenerator[list[Event], None]) -> NibbleError | None:
    try:
        async for _ in stream:
            pass
    except NibbleError as error:
        return error
    return None


async def test_a_worker_that_is_stopped_is_found_out_and_replaced(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarts, stalls, pid = engine.restarts, engine.stalls, _pid(engine)
    stream = steps(engine, asking(max_tokens=400, ignore_eos=True))
    async for events in stream:
        if isinstance(events[0], Piece):
            break
    os.kill(pid, signal.SIGSTOP)
    # Only now: a step on a busy machine may take as long, and elsewhere nothing is to end for that.
    monkeypatch.setattr(engine._watch, "_limit_s", 2.0)
    engine._watch.check()
    async with asyncio.timeout(20.0):
        failure = await _read_to_failure(stream)
    assert isinstance(failure, WorkerDied)
    assert "no sign of life" in failure.message
    assert is_gone(pid)
    await _serves_again(engine, restarts + 1)
    assert engine.stalls == stalls + 1


async def test_an_idle_engine_takes_no_cpu(engine: Engine) -> None:
    """A count of CPU ticks (10 ms each) over a second in which nothing is asked; a busy loop would take 100."""
    await answer(engine, asking(max_tokens=2))
    worker = psutil.Process(_pid(engine))
    await until(lambda: worker.status() == psutil.STATUS_SLEEPING)
    before = worker.cpu_times()
    await asyncio.sleep(1.0)
    after = worker.cpu_times()
    assert after.user + after.system - before.user - before.system <= 0.021


async def test_stopping_leaves_no_process() -> None:
    before = workers_of_this_process()
    engine = await Engine.start(real_config(parallel=1, context=512))
    (pid,) = workers_of_this_process() - before
    assert pid == engine.worker_pid
    await engine.stop()
    await until(lambda: is_gone(pid))
    assert not engine.is_ready


_PARENT = """
import asyncio, sys
from engine.config import EngineConfig
from engine.engine import Engine

async def main():
    engine = await Engine.start(EngineConfig(model_id="m", model_path=sys.argv[1], context=512, parallel=1))
    print(engine.worker_pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_worker_does_not_outlive_its_parent() -> None:
    arguments = [sys.executable, "-c", _PARENT, str(model_path())]
    parent = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE, cwd=_ROOT)
    try:
        assert parent.stdout is not None
        async with asyncio.timeout(30.0):
            pid = int(await parent.stdout.readline())
        assert not is_gone(pid)
    finally:
        parent.kill()
        await parent.wait()
    await until(lambda: is_gone(pid))
