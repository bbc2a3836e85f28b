"""The worker that a start spawns ahead: taken by the first model, ended where nobody wants it, never left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from engine.engine import Engine
from engine.spawned_worker import SpawnedWorker
from server.first_worker import FirstWorker
from tests.engine.real import real_config
from tests.server.nibble_process import ROOT, ServerUnderTest, run_nibble

pytestmark = pytest.mark.model

_PATIENCE_S = 30.0
_SPAWN_AND_WAIT = """
import sys
from server.first_worker import FirstWorker
with FirstWorker():
    print("spawned", flush=True)
    sys.stdin.read()
"""


def _children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@pytest.fixture
def spawned_here() -> Callable[[], set[psutil.Process]]:
    """Workers of this process that were not there when the test began, as others of the suite are."""
    own = psutil.Process()
    before = set(own.children())
    return lambda: set(own.children()) - before


async def test_the_first_engine_takes_it_and_the_second_has_its_own(
    spawned_here: Callable[[], set[psutil.Process]],
) -> None:
    with FirstWorker() as first:
        (spawned,) = spawned_here()
        one = await first.start_engine(real_config())
        two = await first.start_engine(real_config())
        try:
            assert isinstance(one, Engine)
            assert isinstance(two, Engine)
            assert one.worker_pid == spawned.pid
            assert two.worker_pid != spawned.pid
            # It is the engine's now, and stays.
            first.dismiss()
            assert one.is_ready
            assert spawned.is_running()
        finally:
            await one.stop()
            await two.stop()
    assert not spawned.is_running()


async def test_one_that_is_dead_before_it_is_wanted_is_done_without(
    spawned_here: Callable[[], set[psutil.Process]],
) -> None:
    with FirstWorker() as first:
        (spawned,) = spawned_here()
        spawned.kill()
        psutil.wait_procs([spawned], timeout=_PATIENCE_S)
        engine = await first.start_engine(real_config())
        assert engine.is_ready
        await engine.stop()


def test_dismissed_it_is_gone_at_once(spawned_here: Callable[[], set[psutil.Process]]) -> None:
    first = FirstWorker()
    (spawned,) = spawned_here()
    first.dismiss()
    assert not spawned.is_running()
    first.dismiss()


def test_a_system_that_starts_no_process_is_no_matter_before_a_model_loads(
    monkeypatch: pytest.MonkeyPatch, spawned_here: Callable[[], set[psutil.Process]]
) -> None:
    def refuse() -> SpawnedWorker:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(SpawnedWorker, "spawn", refuse)
    with FirstWorker():
        assert spawned_here() == set()


def test_it_does_not_outlive_a_server_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SPAWN_AND_WAIT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"spawned\n"
        workers = _children(server.pid)
        assert len(workers) == 1
        server.kill()
    _, alive = psutil.wait_procs(workers, timeout=_PATIENCE_S)
    assert alive == []


def test_a_server_with_one_model_has_one_worker(tmp_path: Path) -> None:
    with ServerUnderTest(tmp_path, real_engine=True) as running:
        running.wait_until_loaded()
        commands = [child.cmdline() for child in _children(running.pid)]
    assert sum("engine.worker" in command for command in commands) == 1


def test_settings_that_are_wrong_are_told_as_ever(tmp_path: Path) -> None:
    ended = run_nibble(tmp_path, "serve", "--host", "no such address")
    assert ended.returncode == 1
    assert "no such address" in ended.stderr
    assert "Traceback" not in ended.stderr
