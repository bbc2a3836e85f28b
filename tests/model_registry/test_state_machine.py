"""Whatever happens in whatever order, the registry keeps its promises."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import EngineConfig
from engine.errors import ModelLoadFailed, NibbleError
from model_registry.admission import Admission
from model_registry.config import RegistryConfig
from model_registry.engine_handle import EngineHandle
from model_registry.memory import estimate_bytes
from model_registry.model_settings import ModelSettings
from model_registry.registry import ModelRegistry
from model_registry.sources.directory import DirectorySource
from tests.fakes.facts import facts
from tests.model_registry.fake_engine import GGUF_BYTES, FakeEngine, FakeFactory, write_gguf

_PATIENCE_S = 60.0
IDS = ("alpha", "beta", "gamma")
STEPS = st.one_of(
    st.tuples(st.just("request"), st.sampled_from(IDS)),
    st.tuples(st.just("request"), st.sampled_from(IDS)),
    st.tuples(st.just("leave"), st.integers(0, 5)),
    st.tuples(st.just("finish"), st.integers(0, 5)),
    st.tuples(st.just("load succeeds"), st.integers(0, 3)),
    st.tuples(st.just("load fails"), st.integers(0, 3)),
    st.tuples(st.just("time passes"), st.integers(1, 10)),
    st.tuples(st.just("load by hand"), st.sampled_from(IDS)),
    st.tuples(st.just("unload by hand"), st.sampled_from(IDS)),
    st.tuples(st.just("unload by hand"), st.sampled_from(IDS)),
    st.tuples(st.just("unload by force"), st.sampled_from(IDS)),
    st.tuples(st.just("engine dies"), st.integers(0, 5)),
    st.tuples(st.just("file changes"), st.sampled_from(IDS)),
    st.tuples(st.just("file goes"), st.sampled_from(IDS)),
    st.tuples(st.just("look"), st.just(0)),
    st.tuples(st.just("let run"), st.integers(0, 6)),
    st.tuples(st.just("stop"), st.just(0)),
)


class Run:
    """One random life of a registry."""

    def __init__(self, models: Path, rooms: int, is_short: bool, pace: int) -> None:
        """``rooms`` is how many models the memory holds; ``is_short`` unloads what nobody uses at once; with a
        ``pace`` loads succeed by themselves, and so many turns of the loop follow each step."""
        self.factory = FakeFactory(auto=pace > 0)
        self.pace = pace
        self.now = 0.0
        kv_bytes = facts().kv_bytes
        self.one = estimate_bytes(GGUF_BYTES, kv_bytes)
        self.most = rooms
        config = RegistryConfig(
            data_dir=models,
            models_dir=models,
            memory_budget_bytes=rooms * self.one + self.one // 2,
            keep_alive_s=0.0 if is_short else None,
            models={"beta": ModelSettings(pin=True)},
            engine=EngineConfig(model_id="", model_path="", kv_budget_bytes=kv_bytes),
        )
        self.registry = ModelRegistry(
            config,
            self.factory.start,
            sources=[DirectorySource(models)],
            admission=Admission(config, available=lambda: None),
            clock=lambda: self.now,
        )
        self.models = models
        self.requests: list[tuple[asyncio.Task[None], asyncio.Event]] = []
        self.acts: list[asyncio.Task[None]] = []
        """Loads, unloads and looks."""
        self.tail = 0
        self.may_beta_go = False
        """Whether anything has happened that a pinned model does not outlive."""
        self.forced: set[str] = set()
        self.excused: set[EngineHandle] = set()
        """Engines that were ended although they were busy: by force, or by their own death."""
        self.held: list[EngineHandle] = []
        self.is_stopping = False
        self.stop_task: asyncio.Task[None] | None = None

    async def request(self, model_id: str, done: asyncio.Event) -> None:
        try:
            async with self.registry.lease(model_id) as lease:
                self.held.append(lease.engine)
                try:
                    assert lease.card.id == model_id
                    assert lease.card.state == "ready"
                    assert lease.engine.failure is None, "a dead engine was given"
                    assert not self.is_stopping, "a lease was given after stop"
                    await done.wait()
                    self.check_engine(lease.engine)
                finally:
                    self.held.remove(lease.engine)
        except NibbleError:
            pass

    def act(self, work: Coroutine[None, None, None]) -> None:
        async def quietly() -> None:
            with suppress(NibbleError):
                await work

        self.acts.append(asyncio.create_task(quietly()))

    async def stop(self) -> None:
        # Said when the registry hears of it, and not when the task is made: a load that ends in a thread in between
        # wakes those who wait for it first, and they are served by right.
        self.is_stopping = True
        await self.registry.stop()

    async def force(self, model_id: str) -> None:
        self.forced.add(model_id)
        try:
            await self.registry.unload(model_id, force=True)
        finally:
            for engine in self.held:
                self.check_engine(engine)
            self.forced.discard(model_id)

    def step(self, action: str, value: str | int) -> None:
        open_loads = [load for load in self.factory.loads if not load.gate.is_set()]
        match action, value:
            case "request", str(model_id):
                done = asyncio.Event()
                self.requests.append((asyncio.create_task(self.request(model_id, done)), done))
            case "leave", int(index) if index < len(self.requests):
                self.requests[index][0].cancel()
            case "finish", int(index) if index < len(self.requests):
                self.requests[index][1].set()
            case "load succeeds", int(index) if index < len(open_loads):
                open_loads[index].succeed()
            case "load fails", int(index) if index < len(open_loads):
                open_loads[index].fail(ModelLoadFailed("broken: mend it"))
            case "time passes", int(seconds):
                self.now += seconds
            case "load by hand", str(model_id):
                self.act(self.registry.load(model_id))
            case "unload by hand", str(model_id):
                # Pinned it goes, busy it does not.
                self.may_beta_go |= model_id == "beta"
                self.act(self.registry.unload(model_id))
            case "unload by force", str(model_id):
                self.may_beta_go |= model_id == "beta"
                self.act(self.force(model_id))
            case "engine dies", int(index) if index < len(self.factory.engines):
                engine = self.factory.engines[index]
                if not engine.is_stopped:
                    self.excused.add(engine)
                    self.may_beta_go |= engine.config.model_id == "beta"
                    engine.die(ModelLoadFailed("its worker keeps dying"))
            case "file changes", str(model_id):
                self.tail += 1
                self.may_beta_go |= model_id == "beta"
                write_gguf(self.models / f"{model_id}.gguf", tail=b"x" * self.tail)
            case "file goes", str(model_id):
                self.may_beta_go |= model_id == "beta"
                (self.models / f"{model_id}.gguf").unlink(missing_ok=True)
            case "look", _:
                self.act(self.registry.look())
            case "stop", _ if self.stop_task is None:
                self.stop_task = asyncio.create_task(self.stop())
            case _:
                pass

    async def live(self, steps: list[tuple[str, str | int]]) -> None:
        await self.registry.start()
        for action, value in steps:
            if action == "let run":
                for _ in range(int(value)):
                    await asyncio.sleep(0)
            else:
                self.step(action, value)
                for _ in range(self.pace):
                    await asyncio.sleep(0)
            for engine in self.held:
                self.check_engine(engine)
            assert not self.factory.doubled, "two loads of one model at once"
            self.check_memory()
        for _, done in self.requests:
            done.set()
        await self.check_progress()
        await self.registry.stop()
        if self.stop_task is not None:
            await self.stop_task
        await asyncio.gather(*(task for task, _ in self.requests), return_exceptions=True)
        self.check_the_end()

    async def check_progress(self) -> None:
        """Whoever asked has his answer, or an error, once loads do not stand still any more."""
        self.factory.auto = True
        for load in self.factory.loads:
            load.gate.set()
        async with asyncio.timeout(_PATIENCE_S):
            tasks = [*self.acts, *(task for task, _ in self.requests)]
            await asyncio.gather(*tasks, return_exceptions=True)
            for act in self.acts:
                act.result()
            for model_id in IDS:
                self.now += 60
                done = asyncio.Event()
                done.set()
                await self.request(model_id, done)
                # Every life ends with deaths, so that none depends on chance for one: who comes next gets another.
                for engine in self.factory.engines:
                    if engine.config.model_id == model_id and not engine.is_stopped:
                        self.may_beta_go |= model_id == "beta"
                        engine.die(ModelLoadFailed("its worker keeps dying"))
                self.now += 60
                await self.request(model_id, done)
        self.check_memory()

    def check_engine(self, engine: EngineHandle) -> None:
        assert isinstance(engine, FakeEngine)
        if engine.config.model_id in self.forced and engine.is_stopped:
            self.excused.add(engine)
        is_excused = self.is_stopping or engine in self.excused
        assert is_excused or not engine.is_stopped, "a busy model was unloaded"

    def check_memory(self) -> None:
        running = [engine.config.model_id for engine in self.factory.engines if not engine.is_stopped]
        assert len(running) + len(self.factory.under_way) <= self.most, "over the budget"
        is_excused = self.is_stopping or self.may_beta_go
        if any(engine.config.model_id == "beta" for engine in self.factory.engines) and not is_excused:
            assert "beta" in running, "a pinned model was unloaded"

    def check_the_end(self) -> None:
        for task, _ in self.requests:
            assert task.cancelled() or task.exception() is None
        assert not self.held
        assert not self.factory.under_way
        assert not self.factory.doubled
        assert all(engine.is_stopped for engine in self.factory.engines), "an engine was left running"
        for card in self.registry.cards():
            assert card.state in ("registered", "unloaded", "failed")
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, min_size=8, max_size=60), st.integers(1, 3), st.booleans(), st.sampled_from([0, 0, 8]))
def test_any_order_of_events_keeps_the_promises(
    steps: list[tuple[str, str | int]], rooms: int, is_short: bool, pace: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for model_id in IDS:
            write_gguf(Path(directory, f"{model_id}.gguf"))
        asyncio.run(Run(Path(directory), rooms, is_short, pace).live(steps))
