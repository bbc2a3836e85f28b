"""The seam between registry and engine: what a loaded model must be able to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from engine.adapter import Adapter
from engine.config import EngineConfig, EngineStats, ModelFacts
from engine.embedding import EmbeddingRequest, Embeddings
from engine.errors import NibbleError
from engine.event_stream import Take
from engine.process_memory import ProcessMemory
from engine.question import Answer, Question
from engine.request import EngineRequest


class EngineHandle(Protocol):
    """A running engine as the registry sees it. The real one is ``engine.engine.Engine``."""

    @property
    def facts(self) -> ModelFacts: ...

    @property
    def stats(self) -> EngineStats:
        """The newest figures; cheap to read."""
        ...

    @property
    def memory(self) -> ProcessMemory | None:
        """What its processes hold now; None where none runs, and where the system does not tell."""
        ...

    @property
    def restarts(self) -> int:
        """Worker deaths survived so far."""
        ...

    @property
    def stalls(self) -> int:
        """Those of them that were no deaths of its own: the worker was silent, and was ended for it."""
        ...

    @property
    def is_ready(self) -> bool:
        """False while its worker restarts."""
        ...

    @property
    def failure(self) -> NibbleError | None:
        """Why it will never answer again: its workers kept dying, and nothing of it is left to stop."""
        ...

    async def generate(self, request: EngineRequest, take: Take) -> None:
        """See ``generation.engine_port.EnginePort``, as of the two that follow."""
        ...

    async def embed(self, request: EmbeddingRequest) -> Embeddings: ...

    async def ask(self, question: Question) -> Answer: ...

    @property
    def adapters(self) -> Mapping[str, Adapter]:
        """Those that requests can name, by name."""
        ...

    async def load_adapter(self, adapter: Adapter) -> None:
        """Let requests name it, in place of one of that name. Raises ModelLoadFailed, which changes nothing,
        ModelUnavailable and WorkerDied."""
        ...

    async def drop_adapter(self, name: str) -> None:
        """Let no more requests name it. Those that run with it go on; harmless for one that was there at the start."""
        ...

    async def stop(self) -> None:
        """End the worker; streams that still run get an error of the tree. Harmless when called twice."""
        ...


StartEngine = Callable[[EngineConfig], Awaitable[EngineHandle]]
"""Starts an engine and returns once it has decoded a token. Raises ModelLoadFailed,
ModelLoadTimeout or InsufficientMemory.

Cancelling it must end whatever it has started.
"""
