"""The registry: one state machine over all models, by which requests get a loaded one to work with."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from engine.errors import ErrorRecord, ModelLoadFailed, ModelUnavailable, QueueFull
from model_registry.adapter_detail import AdapterDetail
from model_registry.adapter_files import AdapterFiles
from model_registry.adapter_keeper import AdapterKeeper
from model_registry.admission import Admission
from model_registry.amendment import Amendment
from model_registry.card import ModelCard
from model_registry.config import RegistryConfig
from model_registry.drain import Drain
from model_registry.engine_handle import EngineHandle, StartEngine
from model_registry.eviction import EvictionReason
from model_registry.figures import ModelFigures
from model_registry.lease import Lease
from model_registry.model import Model
from model_registry.model_detail import ModelDetail, detail_of
from model_registry.model_loader import ModelLoader
from model_registry.preload import Preload
from model_registry.removal import SideEffect, plan_removal
from model_registry.residence import Residence
from model_registry.room_maker import RoomMaker
from model_registry.shelf import Shelf
from model_registry.sources.default_sources import default_sources
from model_registry.sources.found_model import ModelSource
from model_registry.store.model_record import FileRecord
from model_registry.store.model_store import ModelStore
from model_registry.trial import Trial
from model_registry.watch import Watch

_logger = logging.getLogger("nibble.registry")


class ModelRegistry:
    """Knows every model, loads those that are asked for, and counts who uses them.

    Owned by the event loop: every method but ``scan`` runs on it, and nothing relies on what it saw before an
    ``await``, so there are no locks.
    """

    def __init__(
        self,
        config: RegistryConfig,
        start_engine: StartEngine,
        *,
        sources: Sequence[ModelSource] | None = None,
        store: ModelStore | None = None,
        admission: Admission | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._sources = default_sources(config) if sources is None else tuple(sources)
        self._clock = clock
        self._store = store or ModelStore.in_directory(config.data_dir)
        self._shelf = Shelf(self._sources, self._store, config)
        self._admission = admission or Admission(config)
        self._drain = Drain()
        self._residence = Residence(
            config, self._shelf, self._drain, lambda model: self._loader.begin_unload(model), clock
        )
        room_maker = RoomMaker(
            self._admission,
            self._residence.everywhere,
            self._residence.may_go,
            partial(self._residence.evict, "memory"),
        )
        self._admission.count(self._residence.everywhere)
        make_room = room_maker.make_room
        self._loader = ModelLoader(config, start_engine, self._admission, make_room, clock)
        self._trial = Trial(config, start_engine, self._admission, make_room, self._store)
        self._adapters = AdapterKeeper(
            clock, config.retry_pause_s, room_maker.make_room_beside, self._admission.book
        )
        self._preload = Preload(config, self._shelf, self._begin_load)
        self._watch = Watch(self.look, config.watch_s)
        self._is_scanned = self._is_started = False
        self._looking = asyncio.Lock()
        """An older look that ends last would bring back what a newer one saw go."""

    @property
    def is_ready(self) -> bool:
        """A request could be answered: a model has decoded a token, and serves, or was unloaded since and will be
        loaded again. Not on the server's way down."""
        return not self._drain.is_begun and any(model.is_serving or model.is_dormant for model in self._shelf)

    @property
    def is_hopeless(self) -> bool:
        """No model serves, and none could be loaded by a request as things are."""
        return all(model.state == "failed" for model in self._shelf)

    @property
    def problems(self) -> tuple[str, ...]:
        """What the sources had to leave out, one sentence each."""
        return self._shelf.problems

    @property
    def preload(self) -> tuple[str, ...]:
        """Ids that ``start`` begins to load."""
        return self._preload.ids

    def scan(self) -> None:
        """Ask the sources, once. Raises ModelNotFound if there is no model, or none of an id that is set."""
        if self._is_scanned:
            return
        self._shelf.fill()
        self._preload.choose()
        self._is_scanned = True

    async def start(self) -> None:
        """Scan, and begin to load the preload set in the background. Raises what ``scan`` raises.

        Harmless when repeated: a server begins before it has imported the app, which begins as well.
        """
        if self._is_started:
            return
        self.scan()
        self._is_started = True
        self._preload.begin()
        self._watch.begin()

    async def preloaded(self) -> None:
        """Return when every load that is under way has ended, well or badly."""
        await self._preload.begun()
        await self._loader.settled()
        await self._adapters.settled()

    async def drain(self, limit_s: float) -> bool:
        """Refuse new leases and wait up to ``limit_s`` seconds for the held ones. True if none is left."""
        self._drain.begin()
        return await self._drain.wait(limit_s)

    async def stop(self) -> None:
        """End every load and every engine at once; running streams get an error. Harmless when repeated."""
        self._drain.begin()
        self._residence.stop_timers()
        self._preload.cancel()
        self._watch.cancel()
        self._loader.cancel_loads()
        self._adapters.cancel()
        await self.preloaded()
        self._residence.stop()
        await self._loader.settled()

    async def look(self) -> None:
        """See what has come, gone and changed, and let go of models whose file is another now."""
        async with self._looking:
            look = await asyncio.to_thread(self._shelf.look)
            if self._drain.is_begun:
                return
            for model in () if look is None else self._shelf.take(look):
                self._residence.retire(model)
            for model in self._shelf:
                self._adapters.sync(model, self._shelf.adapters_of(model))

    async def remove(self, model_id: str) -> tuple[SideEffect, ...]:
        """Delete a model's files and forget it. Requests that hold it finish with it. Returns what else has changed.

        Raises ModelNotFound, InvalidRequest for a name that is no model's own id, and ModelProtected.
        """
        self._drain.check()
        found = self._shelf.adapted(model_id, is_own=True) or self._shelf.own(model_id)
        removal = plan_removal(found, self._shelf, self._config)
        await asyncio.to_thread(removal.carry_out, self._store)
        _logger.info("%s was deleted by a request", found.id)
        await self.look()
        return removal.effects

    async def amend(self, model_id: str, amendment: Amendment) -> None:
        """Keep new words for a model. Settings count from its next load, but for when it is unloaded.

        Raises ModelNotFound, InvalidRequest, and ModelUnavailable where the store cannot be written.
        """
        model = self._shelf.own(model_id)
        await asyncio.to_thread(self._shelf.amend, model, amendment)
        await self.look()
        if not model.is_retired:
            self._residence.rest(model)

    async def load(self, model_id: str) -> None:
        """Load a model, also one whose last load has just failed, and wait for it. Raises what ``lease`` raises."""
        await self._loaded(model_id, retries=True)

    async def unload(self, model_id: str, *, wait_s: float = 0.0, force: bool = False) -> None:
        """Unload a model, pinned or not. Requests that come meanwhile load it again. Harmless where it is not loaded.

        Raises ModelBusy where requests hold it, or wait for it, for longer than ``wait_s`` seconds; ``force`` ends
        them with ModelUnavailable. Raises ModelNotFound.
        """
        await self._residence.unload(self._shelf.find(model_id), wait_s=wait_s, force=force)

    async def try_out(self, model_id: str, source: str | None = None) -> FileRecord:
        """Load the model of that name, whichever twin may serve for it, once in a worker of its own, and keep what that
        told: see ``Trial``.

        Raises ModelNotFound, ModelLoadFailed, InsufficientMemory and ModelUnavailable.
        """
        self._drain.check()
        record = await self._trial.run(self._shelf.named(model_id), source)
        await self.look()
        return record

    def adapter_files(self, model_id: str) -> AdapterFiles | None:
        """The files of a model with an adapter; None where the name is that of a model by itself."""
        adapted = self._shelf.adapted(model_id)
        return None if adapted is None else AdapterFiles.of(adapted)

    async def try_out_adapter(self, model_id: str) -> None:
        """Load a model with its adapter once in a worker of its own: see ``Trial``. Raises what ``try_out`` raises."""
        self._drain.check()
        adapted = self._shelf.adapted(model_id)
        if adapted is None:
            raise self._shelf.not_found(model_id)
        await self._trial.run_with(adapted)

    async def reserve(self, model_id: str, path: Path) -> ExitStack:
        """Make room for a trial of a file that may not be known yet: see ``Trial.reserve``."""
        self._drain.check()
        return await self._trial.reserve(model_id, path)

    async def take_in(self, path: Path) -> str:
        """Notice a file that was just put in its place, whole; the id that it has. Raises ModelLoadFailed if none."""
        for _ in range(2):  # a file is believed when two looks saw it the same
            await self.look()
        model = self._shelf.at(path)
        if model is None:
            raise ModelLoadFailed(
                f"{path.name} is not served: it lies where no model is looked for, or another model has its id"
            )
        return model.id

    def details(self) -> list[ModelDetail]:
        """All that is known of every model, sorted by id. Never loads one, nor counts as use."""
        self._notice_deaths()
        return [self._detail(model) for model in sorted(self._shelf, key=lambda model: model.id)]

    def detail(self, model_id: str, *, serving: bool = False) -> ModelDetail:
        """The same of one, by id or alias: the model itself where that names one with an adapter, or has a twin;
        with ``serving``, the twin. Raises ModelNotFound.
        """
        self._notice_deaths()
        return self._detail(self._shelf.find(model_id) if serving else self._shelf.named(model_id))

    def adapter(self, name: str) -> AdapterDetail | None:
        """The same of a model with an adapter, by its id or alias; None for what is none. Raises ModelNotFound."""
        adapted = self._shelf.adapted(name)
        if adapted is None:
            self._shelf.named(name)
            return None
        return adapted.detail()

    def _detail(self, model: Model) -> ModelDetail:
        return detail_of(
            model,
            self._config,
            adapters=self._shelf.adapted_ids(model),
            estimated_bytes=self._admission.held_bytes(model),
            keep_alive_left_s=self._residence.left_s(model),
            now=self._clock(),
        )

    def check(self, config: RegistryConfig) -> None:
        """Whether ``reconfigure`` may be called with ``config``. Raises ModelNotFound for an id that is new in it.

        For any thread.
        """
        before = {*self._config.embed, *self._config.matryoshka}
        for model_id in (*config.embed, *config.matryoshka):
            if model_id not in before and model_id not in self._shelf.ids():
                raise self._shelf.not_found(model_id)

    def reconfigure(self, config: RegistryConfig) -> None:
        """Go by ``config`` from now on. What is loaded stays as it is; where models are, and what is loaded at start
        or watched, is as it was at the start.
        """
        self._config = config
        for part in (self._shelf, self._loader, self._admission, self._trial, self._residence):
            part.reconfigure(config)

    def cards(self) -> list[ModelCard]:
        """Every model, sorted by id."""
        self._notice_deaths()
        return [self._card(model_id) for model_id in self._shelf.ids()]

    def card(self, model_id: str) -> ModelCard:
        """One model, by id or alias. Raises ModelNotFound, whose message names the nearest known ones."""
        self._notice_deaths()
        return self._card(model_id)

    def _card(self, name: str) -> ModelCard:
        sampling = self._shelf.find(name).sampling(self._config)
        return msgspec.structs.replace(self._shelf.card(name), sampling=sampling)

    def _notice_deaths(self) -> None:
        for model in self._shelf:
            model.notice_death(self._clock())

    def knows(self, model_id: str) -> bool:
        return self._shelf.knows(model_id)

    def figures(self) -> list[ModelFigures]:
        """Figures of every model, for metrics: never loads one, nor counts as use."""
        self._notice_deaths()
        return [model.figures() for model in self._shelf]

    @property
    def evictions(self) -> Mapping[tuple[str, EvictionReason], int]:
        """How often each model was unloaded without anybody's asking for it, and why."""
        return self._residence.evictions

    @asynccontextmanager
    async def lease(self, model_id: str, *, adapters: Sequence[str] = ()) -> AsyncGenerator[Lease]:
        """Hold a model, loading it first if needed, with the adapter of its id and those of the names ``adapters``.

        However many requests wait for a load, there is one; it goes on if they all leave. Raises
        ModelNotFound, ModelLoadFailed, InsufficientMemory, or ModelUnavailable on the way down.
        """
        model, engine = await self._loaded(model_id)
        # No await between the look at the engine and the count: nothing can unload it in between.
        model.leases += 1
        model.was_used = True
        self._residence.use(model)
        with self._drain.awaiting():
            try:
                async with self._adapters.hold(engine, self._shelf.adapters_for(model, model_id, adapters)):
                    yield Lease(self._card(model_id), engine)
            finally:
                model.leases -= 1
                model.used_at = self._clock()
                self._residence.rest(model)

    async def _loaded(self, name: str, *, retries: bool = False) -> tuple[Model, EngineHandle]:
        while True:
            model = self._shelf.find(name)
            self._check_waiting(model)
            model.waiting += 1
            is_leaving = True
            try:
                engine = await self._engine_of(model, 0.0 if retries else self._config.retry_pause_s)
                is_leaving = model.is_retired or retries
            finally:
                model.waiting -= 1
                if is_leaving:
                    # Whoever waited may have gone without ever holding it.
                    self._residence.rest(model)
            if not model.is_retired:
                return model, engine

    def _check_waiting(self, model: Model) -> None:
        """The engine bounds what waits for it, and this what waits until there is one. Raises QueueFull."""
        limit = self._config.engine.queue_limit
        if model.waiting >= limit and model.state != "ready":
            raise QueueFull(
                f"{model.waiting} requests wait for model '{model.id}' to load, and {limit} may",
                retry_after_s=max(1.0, model.load_s or 0.0),
            )

    async def _engine_of(self, model: Model, retry_pause_s: float) -> EngineHandle:
        self._drain.check()
        while model.unload is not None:
            await asyncio.wait({model.unload})
            self._drain.check()
        model.notice_death(self._clock())
        if model.needs_load(self._clock(), retry_pause_s):
            self._begin_load(model)
        if model.load is not None:
            # wait() neither cancels the load with this request nor raises its error here.
            await asyncio.wait({model.load})
            self._drain.check()
            model.notice_death(self._clock())  # it may have ended before it was this waiter's turn
        if model.engine is not None and model.state == "ready":
            return model.engine
        if model.failure is not None:
            # A fresh exception for each waiter: a shared one would gather the tracebacks of all.
            raise ErrorRecord.of(model.failure).to_error()
        raise ModelUnavailable(f"model '{model.id}' is {model.state}, try again", retry_after_s=1.0)

    def _begin_load(self, model: Model) -> None:
        if self._drain.is_begun:
            return
        self._loader.begin_load(model)
        if model.load is not None:
            # Behind the loader's own callback, which settles the state.
            model.load.add_done_callback(partial(self._after_load, model))

    def _after_load(self, model: Model, _load: asyncio.Task[None]) -> None:
        self._residence.rest(model)
        self._adapters.sync(model, self._shelf.adapters_of(model))
