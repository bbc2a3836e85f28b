"""A registry over engines that do nothing, whose loads end when a test says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

from engine.config import EngineConfig
from model_registry.admission import Admission
from model_registry.config import RegistryConfig
from model_registry.lease import Lease
from model_registry.model_settings import ModelSettings
from model_registry.registry import ModelRegistry
from model_registry.sources.directory import DirectorySource
from tests.model_registry.fake_engine import FakeFactory


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class House:
    """A registry with all that surrounds it."""

    def __init__(
        self,
        models: Path,
        preload: tuple[str, ...] = (),
        available: int | None = None,
        queue_limit: int = 1024,
    ) -> None:
        self.factory = FakeFactory()
        self.clock = Clock()
        config = RegistryConfig(
            data_dir=models.parent,
            models_dir=models,
            preload=preload,
            models={"beta": ModelSettings(context=64, threads=3)},
            engine=EngineConfig(model_id="", model_path="", context=512, queue_limit=queue_limit),
        )
        self.registry = ModelRegistry(
            config,
            self.factory.start,
            sources=[DirectorySource(models)],
            admission=Admission(config, available=lambda: available),
            clock=self.clock,
        )

    async def started(self) -> House:
        await self.registry.start()
        (await self.factory.reached(1)).succeed()
        await self.registry.preloaded()
        return self


async def hold(registry: ModelRegistry, model_id: str, until: asyncio.Event) -> Lease:
    async with registry.lease(model_id) as lease:
        await until.wait()
        return lease


async def settle() -> None:
    """Let every task that can run, run until it waits for something that only the test gives."""
    for _ in range(20):
        await asyncio.sleep(0)
