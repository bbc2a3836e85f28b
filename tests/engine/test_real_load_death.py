"""Real workers that hang or die while they load: whoever waits is told why, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from engine.engine import Engine
from engine.errors import InsufficientMemory, ModelLoadFailed, ModelLoadTimeout, NibbleError
from tests.engine.real import is_gone, real_config, until, workers_of_this_process

PATIENCE_S = 60.0


async def loading(pipe: Path, load_limit_s: float = PATIENCE_S) -> tuple[asyncio.Task[Engine], int]:
    """A load that never ends, since its file is a pipe that nobody writes to; and its worker."""
    os.mkfifo(pipe)
    before = workers_of_this_process()
    load = asyncio.create_task(Engine.start(real_config(model_path=str(pipe), load_limit_s=load_limit_s)))
    await until(lambda: bool(workers_of_this_process() - before) or load.done(), PATIENCE_S)
    (pid,) = workers_of_this_process() - before
    return load, pid


@pytest.mark.parametrize(
    ("number", "error_class", "mend"),
    [
        (signal.SIGKILL, InsufficientMemory, "memory ran out"),
        (signal.SIGILL, ModelLoadFailed, "another processor"),
        (signal.SIGSEGV, ModelLoadFailed, "likely damaged"),
    ],
)
async def test_a_worker_that_dies_while_loading_tells_why(
    tmp_path: Path, number: signal.Signals, error_class: type[NibbleError], mend: str
) -> None:
    load, pid = await loading(tmp_path / "endless.gguf")
    os.kill(pid, number)
    with pytest.raises(error_class, match=mend):
        await load
    assert is_gone(pid)


async def test_a_load_that_hangs_ends_after_its_time(tmp_path: Path) -> None:
    load, pid = await loading(tmp_path / "endless.gguf", load_limit_s=2.0)
    with pytest.raises(ModelLoadTimeout, match=r"did not load within 2 seconds.*load_timeout_s"):
        await load
    assert is_gone(pid)


async def test_a_load_that_is_cancelled_leaves_no_worker(tmp_path: Path) -> None:
    load, pid = await loading(tmp_path / "endless.gguf")
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    assert is_gone(pid)
