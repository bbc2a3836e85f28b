"""Does what was decided: loads models and unloads them. It never asks whether, nor which."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from engine.errors import InternalError, NibbleError
from model_registry.admission import Admission
from model_registry.allowance import Allowance
from model_registry.config import RegistryConfig
from model_registry.disk_speed import disk_bytes_s
from model_registry.engine_handle import StartEngine
from model_registry.memory_forecast import Shortage
from model_registry.model import Model

_logger = logging.getLogger("nibble.registry")
MakeRoom = Callable[[Model], Awaitable[Allowance | None]]
"""Makes memory for a model, as far as that can be done, and tells what it may take. Raises InsufficientMemory."""


class ModelLoader:
    """Owned by the registry, and with it by the event loop."""

    def __init__(
        self,
        config: RegistryConfig,
        start_engine: StartEngine,
        admission: Admission,
        make_room: MakeRoom,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._start_engine = start_engine
        self._admission = admission
        self._make_room = make_room
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def reconfigure(self, config: RegistryConfig) -> None:
        """Load by ``config`` from now on."""
        self._config = config

    def begin_load(self, model: Model) -> None:
        """Load ``model`` in a task of its own, which ``model.load`` is until it has ended."""
        model.become("loading")
        model.failure = None
        model.load = asyncio.create_task(self._load(model), name=f"load {model.id}")
        self._tasks.add(model.load)
        # First in the task's list of callbacks, so whoever waits for the load finds the state settled. Not in
        # the task itself: one that is cancelled before its first step never runs a line of it.
        model.load.add_done_callback(lambda load: self._end_load(model, load))

    def begin_unload(self, model: Model) -> None:
        """End the engine of a model that is ready, in a task that ``model.unload`` is until it has ended."""
        model.become("draining")
        unload = asyncio.create_task(self._unload(model), name=f"unload {model.id}")
        model.unload = unload
        self._tasks.add(unload)
        unload.add_done_callback(lambda task: self._end_unload(model, task))

    async def settled(self) -> None:
        """Return when nothing is loading or unloading."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    def cancel_loads(self) -> None:
        for task in self._tasks:
            if task.get_name().startswith("load "):
                task.cancel()

    def _end_load(self, model: Model, load: asyncio.Task[None]) -> None:
        self._tasks.discard(load)
        model.load = None
        if load.cancelled():
            model.become("unloaded")

    def _end_unload(self, model: Model, unload: asyncio.Task[None]) -> None:
        self._tasks.discard(unload)
        model.unload = None
        model.let_go()
        model.become("unloaded")
        if not unload.cancelled() and (error := unload.exception()) is not None:
            _logger.error("the engine of %s did not end as it should: %r", model.id, error)

    async def _load(self, model: Model) -> None:
        """Take ``model`` from loading to ready or failed. Raises nothing but its own cancellation.

        Its own task, so that no request's departure can end it.
        """
        began = self._clock()
        try:
            allowance = await self._make_room(model)
            # No await between the room and its booking: another load would take it.
            with self._admission.book(model, allowance):
                config = model.engine_config(self._config)
                shortage = self._admission.shortage(model)
                await asyncio.to_thread(model.source.check, model.found)
                model.warning = None if shortage is None else await _warning(model, shortage)
                if model.warning is not None:
                    _logger.warning("%s", model.warning)
                    config = msgspec.structs.replace(config, spares_memory=True)
                engine = await self._start_engine(allowance.within(config) if allowance else config)
        except NibbleError as error:
            self._fail(model, error)
        except Exception as error:
            # Whatever it is, the waiters must get an answer; the cause goes along for the log.
            failure = InternalError(f"model '{model.id}' could not be loaded: {error!r}")
            failure.__cause__ = error
            self._fail(model, failure)
        else:
            model.engine, model.facts, model.loaded_with = engine, engine.facts, config
            model.was_used = False
            model.load_s = self._clock() - began
            model.used_at = self._clock()
            model.become("ready")

    def _fail(self, model: Model, error: NibbleError) -> None:
        model.failure = error
        model.failed_at = self._clock()
        model.become("failed")

    async def _unload(self, model: Model) -> None:
        if model.engine is not None:
            await model.engine.stop()


async def _warning(model: Model, shortage: Shortage) -> str:
    """What is to be expected of ``model``, by the speed of the disk that it lies on."""
    speed = await asyncio.to_thread(disk_bytes_s, model.found.path)
    return f"{model.id}: {shortage.told(speed)}; take a smaller file, or give the server more memory"
