"""The seam between registry and engine: what a loaded model must be able to do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol

from engine.config import EngineConfig, EngineStats, ModelFacts
from engine.errors import NibbleError
from engine.events import Event
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
    def restarts(self) -> int:
        """Worker deaths survived so far."""
        ...

    @property
    def is_ready(self) -> bool:
        """False while its worker restarts."""
        ...

    @property
    def failure(self) -> NibbleError | None:
        """Why it will never answer again: its workers kept dying, and nothing of it is left to stop."""
        ...

    def generate(self, request: EngineRequest) -> AsyncGenerator[list[Event], None]:
        """See ``generation.engine_port.EnginePort``."""
        ...

    async def stop(self) -> None:
        """End the worker; streams that still run get an error of the tree. Harmless when called twice."""
        ...


StartEngine = Callable[[EngineConfig], Awaitable[EngineHandle]]
"""Starts an engine and returns once it has decoded a token. Raises ModelLoadFailed or InsufficientMemory.

Cancelling it must end whatever it has started.
"""
