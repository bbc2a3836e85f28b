"""Has running engines know the adapters of their models: loads what came, drops what went, reloads no model."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    nullcontext,
)
from functools import partial

from engine.errors import ErrorRecord, ModelUnavailable, NibbleError, WorkerDied
from model_registry.adapted_model import AdaptedModel
from model_registry.engine_handle import EngineHandle
from model_registry.model import Model

_logger = logging.getLogger("nibble.registry")
_MOST_DEATHS = 2
"""Workers that may end while they load one file before it is taken for the cause."""
_Key = tuple[int, str]


class AdapterKeeper:
    """Owned by the registry, and with it by the event loop."""

    def __init__(
        self,
        clock: Callable[[], float],
        retry_pause_s: float,
        make_room: Callable[[AdaptedModel], Awaitable[None]],
        book: Callable[[AdaptedModel], AbstractContextManager[None]],
    ) -> None:
        """``make_room`` makes memory for an adapter, or raises InsufficientMemory; ``book`` counts it as taken."""
        self._clock = clock
        self._make_room = make_room
        self._book = book
        self._retry_pause_s = retry_pause_s
        self._tasks: dict[_Key, asyncio.Task[None]] = {}
        """What is done to each adapter of each engine."""
        self._holds: Counter[_Key] = Counter()

    def hold(
        self, engine: EngineHandle, adapted: Sequence[AdaptedModel]
    ) -> AbstractAsyncContextManager[None]:
        """Have ``engine`` know each of ``adapted``, and keep them there.

        Raises ModelLoadFailed for one that cannot be used, InsufficientMemory, WorkerDied and ModelUnavailable.
        """
        return self._hold(engine, adapted) if adapted else nullcontext()

    @asynccontextmanager
    async def _hold(self, engine: EngineHandle, adapted: Sequence[AdaptedModel]) -> AsyncGenerator[None]:
        keys = [(id(engine), each.name) for each in adapted]
        self._holds.update(keys)
        try:
            for each in adapted:
                await self._ensure(engine, each)
            yield
        finally:
            for key in keys:
                self._holds[key] -= 1
                if not self._holds[key]:
                    del self._holds[key]

    def sync(self, model: Model, adapted: Iterable[AdaptedModel]) -> None:
        """Begin to load those of ``adapted`` that ``model`` lacks, and to drop what nobody holds of the others."""
        engine = model.engine
        if engine is None or not model.is_serving:
            return
        wanted = {each.name: each for each in adapted}
        for name in engine.adapters:
            if name not in wanted and not self._is_in_use(engine, name):
                _ = self._begin(engine, name, self._drop(engine, name))
        for each in wanted.values():
            is_wanting = self._lacks(engine, each) and each.failure is None
            if is_wanting and not self._is_in_use(engine, each.name):
                _ = self._begin(engine, each.name, self._load(engine, each))

    def cancel(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    async def settled(self) -> None:
        """Return when nothing is loading."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks.values()))

    @staticmethod
    def _lacks(engine: EngineHandle, adapted: AdaptedModel) -> bool:
        return adapted.found is not None and engine.adapters.get(adapted.name) != adapted.adapter.adapter

    def _is_in_use(self, engine: EngineHandle, name: str) -> bool:
        """Whether a request holds it, or something is done to it: then a later look is early enough."""
        key = id(engine), name
        return key in self._holds or key in self._tasks

    async def _ensure(self, engine: EngineHandle, adapted: AdaptedModel) -> None:
        while self._lacks(engine, adapted):
            if adapted.failure is not None and self._is_fresh(adapted):
                raise ErrorRecord.of(adapted.failure).to_error()
            task = self._tasks.get((id(engine), adapted.name))
            if task is None:
                adapted.failure = None
                task = self._begin(engine, adapted.name, self._load(engine, adapted))
            # wait() neither cancels the load with this request nor raises its error here.
            await asyncio.wait({task})
            if task.cancelled() or task.exception() is not None:
                raise ModelUnavailable(f"'{adapted.id}' could not be loaded just now", retry_after_s=1.0)

    def _is_fresh(self, adapted: AdaptedModel) -> bool:
        """Whether a failure is the answer, because nothing can have become better."""
        if adapted.failed_at is None or adapted.deaths >= _MOST_DEATHS:
            return True
        return self._clock() - adapted.failed_at < self._retry_pause_s

    def _begin(
        self, engine: EngineHandle, name: str, work: Coroutine[None, None, None]
    ) -> asyncio.Task[None]:
        """Do ``work`` in a task that no request can end. Nothing may be done to that adapter already."""
        key = id(engine), name
        task = asyncio.create_task(work, name=f"adapter {name}")
        self._tasks[key] = task
        task.add_done_callback(partial(self._end, key))
        return task

    def _end(self, key: _Key, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled():
            task.exception()  # told to who waits for it

    async def _load(self, engine: EngineHandle, adapted: AdaptedModel) -> None:
        """Raises ModelUnavailable, where it may work another time; all else is remembered as a failure."""
        if not self._lacks(engine, adapted):
            return
        try:
            await self._make_room(adapted)
            # No await between the room and its booking: another load would take it.
            with self._book(adapted):
                await engine.load_adapter(adapted.adapter.adapter)
        except ModelUnavailable:
            raise
        except NibbleError as error:
            adapted.failure, adapted.failed_at = error, self._clock()
            if isinstance(error, WorkerDied):
                adapted.deaths += 1
            _logger.error("the adapter %s cannot be loaded: %s", adapted.id, error.message)
        else:
            adapted.failure, adapted.deaths = None, 0
            adapted.model.facts = engine.facts
            _logger.info("the adapter %s is loaded", adapted.id)

    async def _drop(self, engine: EngineHandle, name: str) -> None:
        if (id(engine), name) not in self._holds:
            await engine.drop_adapter(name)
