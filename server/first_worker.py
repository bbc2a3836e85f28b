"""The worker that a start spawns before all else: it imports for as long as the server does, on another core."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from engine.spawned_worker import SpawnedWorker

if TYPE_CHECKING:
    # Each would delay what is to come before all else.
    from engine.config import EngineConfig
    from model_registry.engine_handle import EngineHandle


class FirstWorker:
    """Starts engines: the first in the worker that was spawned ahead, any other in one of its own.

    A context manager, which ends a worker that nobody wanted.
    """

    def __init__(self) -> None:
        try:
            self._spawned: SpawnedWorker | None = SpawnedWorker.spawn()
        except OSError:
            # It is tried again when a model is to load, and then somebody can be told.
            self._spawned = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.dismiss()

    async def start_engine(self, config: EngineConfig) -> EngineHandle:
        """Implements ``model_registry.engine_handle.StartEngine``."""
        # Imported by the first load: what is told before it does not wait for the engine room.
        from engine.engine import Engine

        spawned, self._spawned = self._spawned, None
        if spawned is not None and not spawned.is_alive:
            spawned.end()
            spawned = None
        return await Engine.start(config, spawned)

    def dismiss(self) -> None:
        """End the worker if no engine has taken it."""
        if self._spawned is not None:
            self._spawned.end()
            self._spawned = None
