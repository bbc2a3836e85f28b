"""An engine that does nothing, and a factory whose loads wait at gates that the test opens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

from engine.config import EngineConfig, EngineStats
from engine.errors import NibbleError
from engine.events import Event
from engine.request import EngineRequest
from tests.fakes.registry import facts


class FakeEngine:
    """Satisfies ``EngineHandle``. ``is_stopped`` is what the tests look at."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.facts = facts()
        self.stats = EngineStats()
        self.restarts = 0
        self.is_ready = True
        self.is_stopped = False
        self.failure: NibbleError | None = None

    async def generate(self, request: EngineRequest) -> AsyncGenerator[list[Event], None]:
        raise NotImplementedError
        yield []

    async def stop(self) -> None:
        await asyncio.sleep(0)
        self.is_ready = False
        self.is_stopped = True


@dataclass
class Load:
    """One call of ``start``: it goes on when ``gate`` is open, and raises ``error`` if there is one."""

    config: EngineConfig
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    error: NibbleError | Exception | None = None
    is_cancelled: bool = False

    def succeed(self) -> None:
        self.gate.set()

    def fail(self, error: NibbleError | Exception) -> None:
        self.error = error
        self.gate.set()


@dataclass
class FakeFactory:
    """Keeps every load and every engine. ``begun`` is set whenever a load has got as far as its gate."""

    auto: bool = False
    loads: list[Load] = field(default_factory=list)
    engines: list[FakeEngine] = field(default_factory=list)
    under_way: set[str] = field(default_factory=set)
    doubled: list[str] = field(default_factory=list)
    begun: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def start(self, config: EngineConfig) -> FakeEngine:
        running = {engine.config.model_id for engine in self.engines if not engine.is_stopped}
        if config.model_id in self.under_way | running:
            self.doubled.append(config.model_id)
        load = Load(config)
        if self.auto:
            load.succeed()
        self.loads.append(load)
        self.under_way.add(config.model_id)
        async with self.begun:
            self.begun.notify_all()
        try:
            await load.gate.wait()
        except asyncio.CancelledError:
            load.is_cancelled = True
            raise
        finally:
            self.under_way.discard(config.model_id)
        if load.error is not None:
            raise load.error
        engine = FakeEngine(config)
        self.engines.append(engine)
        return engine

    async def reached(self, count: int) -> Load:
        """Wait until ``count`` loads have begun in all; the last of them."""
        async with self.begun:
            await self.begun.wait_for(lambda: len(self.loads) >= count)
        return self.loads[count - 1]


def write_gguf(path: Path, tail: bytes = b"") -> Path:
    """A file with a sound GGUF header: version 3, one tensor, no metadata."""
    path.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") + bytes(8) + tail)
    return path
