"""The registry: one state machine over all models, by which requests get a loaded one to work with."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from engine.errors import ErrorRecord, InternalError, ModelNotFound, ModelUnavailable, NibbleError
from model_registry.admission import Admission
from model_registry.card import ModelCard
from model_registry.config import RegistryConfig
from model_registry.engine_handle import EngineHandle, StartEngine
from model_registry.figures import ModelFigures
from model_registry.lease import Lease
from model_registry.model import Model
from model_registry.sources.bundled import BundledSource
from model_registry.sources.directory import DirectorySource
from model_registry.sources.found_model import ModelSource


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
        admission: Admission | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._start_engine = start_engine
        self._sources = default_sources(config) if sources is None else tuple(sources)
        self._admission = admission or Admission(config.engine.kv_budget_bytes)
        self._clock = clock
        self._models: dict[str, Model] = {}
        self._preload: tuple[str, ...] = ()
        self._problems: tuple[str, ...] = ()
        self._loads: set[asyncio.Task[None]] = set()
        self._fallback: asyncio.Task[None] | None = None
        self._is_scanned = False
        self._is_draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_ready(self) -> bool:
        """A model has decoded a token, its engine takes requests, and the server is not on its way down."""
        return not self._is_draining and any(model.is_serving for model in self._models.values())

    @property
    def is_hopeless(self) -> bool:
        """No model serves, and none could be loaded by a request as things are."""
        return all(model.state == "failed" for model in self._models.values())

    @property
    def problems(self) -> tuple[str, ...]:
        """What the sources had to leave out, one sentence each."""
        return self._problems

    @property
    def preload(self) -> tuple[str, ...]:
        """Ids that ``start`` begins to load."""
        return self._preload

    def scan(self) -> None:
        """Ask the sources, once. Raises ModelNotFound if there is no model, or none of a preload id."""
        if self._is_scanned:
            return
        problems: list[str] = []
        for source in self._sources:
            findings = source.find()
            problems += findings.problems
            for found in findings.models:
                if first := self._models.get(found.id):
                    problems.append(f"{found.path} is not served: {first.found.path} has its id '{found.id}'")
                else:
                    self._models[found.id] = Model(found, source)
        self._problems = tuple(problems)
        self._preload = self._choose_preload()
        self._is_scanned = True

    async def start(self) -> None:
        """Scan, and begin to load the preload set in the background. Raises what ``scan`` raises."""
        self.scan()
        for model_id in self._preload:
            model = self._models[model_id]
            if model.state == "registered" and not self._is_draining:
                self._begin_load(model)
        if not self._config.preload:
            self._fallback = asyncio.create_task(self._try_until_one_serves(), name="preload")

    async def preloaded(self) -> None:
        """Return when every load that is under way has ended, well or badly."""
        while pending := {task for task in (*self._loads, self._fallback) if task and not task.done()}:
            await asyncio.wait(pending)

    async def drain(self, limit_s: float) -> bool:
        """Refuse new leases and wait up to ``limit_s`` seconds for the held ones. True if none is left."""
        self._is_draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        return self._idle.is_set()

    async def stop(self) -> None:
        """End every load and every engine at once; running streams get an error. Harmless when repeated."""
        self._is_draining = True
        for task in (*self._loads, self._fallback):
            if task is not None:
                task.cancel()
        await self.preloaded()
        await asyncio.gather(*(self._unload(model) for model in self._models.values()))

    def cards(self) -> list[ModelCard]:
        """Every model, sorted by id."""
        self._notice_deaths()
        return [self._models[model_id].card() for model_id in sorted(self._models)]

    def card(self, model_id: str) -> ModelCard:
        """One model. Raises ModelNotFound, whose message names the nearest known ids."""
        self._notice_deaths()
        return self._model(model_id).card()

    def _notice_deaths(self) -> None:
        now = self._clock()
        for model in self._models.values():
            model.notice_death(now)

    def knows(self, model_id: str) -> bool:
        return model_id in self._models

    def figures(self) -> list[ModelFigures]:
        """Figures of every model, for metrics: never loads one, nor counts as use."""
        self._notice_deaths()
        return [model.figures() for model in self._models.values()]

    @asynccontextmanager
    async def lease(self, model_id: str) -> AsyncGenerator[Lease]:
        """Hold a model, loading it first if needed.

        However many requests wait for a load, there is one; it goes on if they all leave. Raises
        ModelNotFound, ModelLoadFailed, InsufficientMemory, or ModelUnavailable on the way down.
        """
        model = self._model(model_id)
        engine = await self._engine_of(model)
        # No await between the look at the engine and the count: nothing can unload it in between.
        model.leases += 1
        self._idle.clear()
        try:
            yield Lease(model.card(), engine)
        finally:
            model.leases -= 1
            if not any(other.leases for other in self._models.values()):
                self._idle.set()

    async def _engine_of(self, model: Model) -> EngineHandle:
        self._refuse_when_draining()
        model.notice_death(self._clock())
        if model.needs_load(self._clock(), self._config.retry_pause_s):
            self._begin_load(model)
        if model.load is not None:
            # wait() neither cancels the load with this request nor raises its error here.
            await asyncio.wait({model.load})
            self._refuse_when_draining()
        if model.engine is not None and model.state == "ready":
            return model.engine
        if model.failure is not None:
            # A fresh exception for each waiter: a shared one would gather the tracebacks of all.
            raise ErrorRecord.of(model.failure).to_error()
        raise ModelUnavailable(f"model '{model.id}' is {model.state}, try again", retry_after_s=1.0)

    def _refuse_when_draining(self) -> None:
        if self._is_draining:
            raise ModelUnavailable("the server is shutting down", retry_after_s=5.0)

    async def _try_until_one_serves(self) -> None:
        """Nobody has said what to load, so a first model that fails is no reason to stand there with none."""
        for model in self._models.values():
            if model.state == "registered" and not self._is_draining:
                self._begin_load(model)
            if model.load is not None:
                await asyncio.wait({model.load})
            if model.state == "ready":
                return

    def _begin_load(self, model: Model) -> None:
        model.become("loading")
        model.failure = None
        model.load = asyncio.create_task(self._load(model), name=f"load {model.id}")
        self._loads.add(model.load)
        # First in the task's list of callbacks, so whoever waits for the load finds the state settled. Not in
        # the task itself: one that is cancelled before its first step never runs a line of it.
        model.load.add_done_callback(lambda load: self._end_load(model, load))

    def _end_load(self, model: Model, load: asyncio.Task[None]) -> None:
        self._loads.discard(load)
        model.load = None
        if load.cancelled():
            model.become("unloaded")

    async def _load(self, model: Model) -> None:
        """Take ``model`` from loading to ready or failed. Raises nothing but its own cancellation.

        Its own task, so that no request's departure can end it.
        """
        began = self._clock()
        others = (other for other in self._models.values() if other is not model)
        is_first = not any(other.engine or other.load for other in others)
        try:
            with self._admission.admit(model.found, is_first=is_first):
                await asyncio.to_thread(model.source.check, model.found)
                engine = await self._start_engine(model.engine_config(self._config.engine))
        except NibbleError as error:
            self._fail(model, error)
        except Exception as error:
            # Whatever it is, the waiters must get an answer; the cause goes along for the log.
            failure = InternalError(f"model '{model.id}' could not be loaded: {error!r}")
            failure.__cause__ = error
            self._fail(model, failure)
        else:
            model.engine, model.facts = engine, engine.facts
            model.load_s = self._clock() - began
            model.become("ready")

    def _fail(self, model: Model, error: NibbleError) -> None:
        model.failure = error
        model.failed_at = self._clock()
        model.become("failed")

    async def _unload(self, model: Model) -> None:
        if (engine := model.engine) is None or model.state != "ready":
            return
        model.become("draining")
        try:
            await engine.stop()
        finally:
            model.engine = None
            model.become("unloaded")

    def _model(self, model_id: str) -> Model:
        if model := self._models.get(model_id):
            return model
        near = difflib.get_close_matches(model_id.lower()[:200], self._models, n=3, cutoff=0.4)
        known = near or sorted(self._models)[:5]
        hint = "the nearest known: " if near else "known: "
        names = ", ".join(f"'{name}'" for name in known)
        raise ModelNotFound(f"model '{model_id[:200]}' does not exist; {hint}{names}", param="model")

    def _choose_preload(self) -> tuple[str, ...]:
        if not self._models:
            where = self._config.models_dir or "the models directory"
            raise ModelNotFound(
                "there is no model to serve: run 'make setup' for the bundled one,"
                f" or put a .gguf file into {where}"
            )
        for model_id in self._config.preload:
            self._model(model_id)
        if self._config.preload:
            return tuple(dict.fromkeys(self._config.preload))
        # The sources come in order of preference: the user's own files before the bundled one.
        usable = [model.id for model in self._models.values() if model.found.failure is None]
        return tuple(usable[:1])


def default_sources(config: RegistryConfig) -> tuple[ModelSource, ...]:
    """The user's directory first: where ids collide, his file is the one that counts."""
    bundled = BundledSource(config.data_dir)
    return (DirectorySource(config.models_dir), bundled) if config.models_dir else (bundled,)
