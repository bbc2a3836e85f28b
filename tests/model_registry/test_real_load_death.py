"""A worker that dies while it loads, for two requests that wait for it: a real process, killed for real."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.engine import Engine
from engine.errors import InsufficientMemory
from model_registry.config import RegistryConfig
from model_registry.registry import ModelRegistry
from tests.engine.real import until, workers_of_this_process
from tests.fixtures.tiny_gguf import write_tiny

pytestmark = pytest.mark.model
PATIENCE_S = 60.0


async def test_two_requests_that_wait_for_a_load_are_both_told_of_its_worker_s_death(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    model = write_tiny(models / "tiny.gguf")
    config = RegistryConfig(data_dir=tmp_path, models_dir=models, preload=("tiny",), retry_pause_s=0.0)
    stopped: list[int] = []

    async def start(config: EngineConfig) -> Engine:
        """As the real one; the first worker is held up before its first line, by the kernel."""
        before = workers_of_this_process()
        starting = asyncio.ensure_future(Engine.start(config))
        if not stopped:
            await until(lambda: bool(workers_of_this_process() - before), PATIENCE_S)
            stopped.extend(workers_of_this_process() - before)
            os.kill(stopped[0], signal.SIGSTOP)
        return await starting

    registry = ModelRegistry(config, start)
    await registry.start()

    async def use() -> None:
        async with registry.lease("tiny"):
            pass

    waiters = [asyncio.create_task(use()) for _ in range(2)]
    await until(lambda: bool(stopped), PATIENCE_S)
    await until(lambda: getattr(registry.detail("tiny").use, "waiting", 0) == 2, PATIENCE_S)
    os.kill(stopped[0], signal.SIGKILL)
    told = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(each) for each in told] == [InsufficientMemory, InsufficientMemory]
    assert told[0] is not told[1]
    assert registry.detail("tiny").use is None
    assert model.exists()
    await use()
    assert registry.card("tiny").state == "ready", "the next request loads it"
    await registry.stop()
    assert not workers_of_this_process()
