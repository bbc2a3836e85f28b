"""An engine that does nothing, and a factory whose loads wait at gates that the test opens."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field
from pathlib import Path

from engine.adapter import Adapter
from engine.config import EngineConfig, EngineStats, ModelFacts
from engine.embedding import EmbeddingRequest, Embeddings
from engine.errors import NibbleError
from engine.event_stream import Take
from engine.process_memory import ProcessMemory
from engine.question import Answer, Question
from engine.request import EngineRequest
from tests.fakes.facts import facts


def key_of(config: EngineConfig) -> tuple[str, int]:
    """What makes a model the same one: its id, and its file as told by the size."""
    path = Path(config.model_path)
    return config.model_id, path.stat().st_size if path.exists() else 0


class FakeEngine:
    """Satisfies ``EngineHandle``. ``is_stopped`` is what the tests look at."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.key = key_of(config)
        self.facts = facts()
        self.stats = EngineStats()
        self.restarts = 0
        self.stalls = 0
        self.memory: ProcessMemory | None = None
        self.is_ready = True
        self.is_stopped = False
        self.stopped = asyncio.Event()
        self.failure: NibbleError | None = None
        self.adapters = {adapter.name: adapter for adapter in config.adapters}
        self.adapter_loads: list[Adapter] = []
        self.adapter_loading = asyncio.Event()
        self.adapter_gate = asyncio.Event()
        self.adapter_gate.set()
        self.adapter_error: NibbleError | None = None

    async def generate(self, request: EngineRequest, take: Take) -> None:
        raise NotImplementedError

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        raise NotImplementedError

    async def ask(self, question: Question) -> Answer:
        raise NotImplementedError

    async def load_adapter(self, adapter: Adapter) -> None:
        self.adapter_loads.append(adapter)
        self.adapter_loading.set()
        await self.adapter_gate.wait()
        if self.adapter_error is not None:
            raise self.adapter_error
        self.adapters[adapter.name] = adapter

    async def drop_adapter(self, name: str) -> None:
        await asyncio.sleep(0)
        self.adapters.pop(name, None)

    def die(self, error: NibbleError) -> None:
        """Its workers kept dying, and it has given up."""
        self.failure = error
        self.is_ready = False
        self.is_stopped = True

    async def stop(self) -> None:
        await asyncio.sleep(0)
        self.is_ready = False
        self.is_stopped = True
        self.stopped.set()


@dataclass
class Load:
    """One call of ``start``: it goes on when ``gate`` is open, and raises ``error`` if there is one."""

    config: EngineConfig
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    error: NibbleError | Exception | None = None
    facts: ModelFacts | None = None
    """What the engine tells instead of the usual."""
    memory: ProcessMemory | None = None
    """What it holds once it is ready."""
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
    under_way: set[tuple[str, int]] = field(default_factory=set)
    doubled: list[str] = field(default_factory=list)
    begun: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def start(self, config: EngineConfig) -> FakeEngine:
        running = {engine.key for engine in self.engines if not engine.is_stopped}
        key = key_of(config)
        if key in self.under_way | running:
            self.doubled.append(config.model_id)
        load = Load(config)
        if self.auto:
            load.succeed()
        self.loads.append(load)
        self.under_way.add(key)
        async with self.begun:
            self.begun.notify_all()
        try:
            await load.gate.wait()
        except asyncio.CancelledError:
            load.is_cancelled = True
            raise
        finally:
            self.under_way.discard(key)
        if load.error is not None:
            raise load.error
        engine = FakeEngine(config)
        engine.facts, engine.memory = load.facts or engine.facts, load.memory
        self.engines.append(engine)
        return engine

    async def reached(self, count: int) -> Load:
        """Wait until ``count`` loads have begun in all; the last of them."""
        async with self.begun:
            await self.begun.wait_for(lambda: len(self.loads) >= count)
        return self.loads[count - 1]


GGUF_BYTES = 68


def write_gguf(path: Path, tail: bytes = b"") -> Path:
    """A sound GGUF of ``GGUF_BYTES`` and ``tail``: version 3, no metadata, and one tensor of one number."""
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 0)
    tensor = struct.pack("<Q1sIIQ", 1, b"t", 0, 0, 0)
    path.write_bytes((header + tensor).ljust(64, b"\0") + bytes(4) + tail)
    return path
