"""Memory over twenty swaps of two models under a budget that holds one: real workers, measured by the kernel."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import psutil

from benchmarks.result import Result
from engine.config import EngineConfig
from engine.engine import Engine
from engine.process_memory import process_memory
from engine.prompt import TextPrompt
from engine.request import EngineRequest
from model_registry.config import RegistryConfig
from model_registry.registry import ModelRegistry

_SWAPS = 20
_KV_BYTES = 32 << 20
_GROWTH_BYTES = 20e6
"""What may come together over all swaps before something is taken to leak."""


def measure_swaps(model: Path) -> Result:
    """Load two links of ``model`` by turns, let each answer, and read what all worker processes hold."""
    with tempfile.TemporaryDirectory(prefix="nibble-swaps-") as home:
        models = Path(home, "models")
        models.mkdir()
        for name in ("one", "two"):
            (models / f"{name}.gguf").symlink_to(model)
        return asyncio.run(_swap(Path(home), models, model.stat().st_size))


async def _swap(home: Path, models: Path, file_bytes: int) -> Result:
    engine = EngineConfig(
        model_id="", model_path="", context=512, parallel=2, kv_budget_bytes=_KV_BYTES, prefix_memory_bytes=0
    )
    config = RegistryConfig(
        data_dir=home,
        models_dir=models,
        preload=("one",),
        engine=engine,
        memory_budget_bytes=int(1.5 * (file_bytes + _KV_BYTES + (64 << 20))),
    )
    registry = ModelRegistry(config, Engine.start)
    # Other workloads have processes of this one too.
    others = {each.pid for each in _children()}
    before = _workers_bytes(others)
    await registry.start()
    await registry.preloaded()
    held, most_workers = [], 0
    for swap in range(_SWAPS):
        async with registry.lease(("two", "one")[swap % 2]) as lease:
            request = EngineRequest(prompts=(TextPrompt("1, 2, 3,"),), max_tokens=8)
            await lease.engine.generate(request, lambda _: None)
            held.append(_workers_bytes(others))
            most_workers = max(most_workers, len(_workers(others)))
    for name in ("one", "two"):
        await registry.unload(name)
    after = _workers_bytes(others)
    await registry.stop()
    growth = max(held[-4:]) - max(held[:4])
    figures = ", ".join(f"{each / 1e6:.0f}" for each in held)
    return Result(
        f"{_SWAPS} swaps of two models, budget for one",
        f"{before / 1e6:.0f} MB before, {max(held) / 1e6:.0f} MB loaded at most, {after / 1e6:.0f} MB after",
        "one worker at a time, no growth, all given back",
        most_workers == 1 and growth < _GROWTH_BYTES and after <= before,
        detail=f"MB after each swap: {figures}",
        score=1.0 if most_workers == 1 else 0.0,
    )


def _children() -> list[psutil.Process]:
    children = psutil.Process(os.getpid()).children()
    return [each for each in children if each.status() != psutil.STATUS_ZOMBIE]


def _workers(others: set[int]) -> list[psutil.Process]:
    return [each for each in _children() if each.pid not in others]


def _workers_bytes(others: set[int]) -> int:
    found = (process_memory(worker.pid) for worker in _workers(others))
    return sum(memory.resident_bytes for memory in found if memory)
