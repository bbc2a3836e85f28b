"""Whatever happens in whatever order, the registry keeps its promises."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ModelLoadFailed, NibbleError
from model_registry.admission import Admission
from model_registry.config import RegistryConfig
from model_registry.registry import ModelRegistry
from model_registry.sources.directory import DirectorySource
from tests.model_registry.fake_engine import FakeFactory, write_gguf

IDS = ("alpha", "beta", "gamma")
STEPS = st.one_of(
    st.tuples(st.just("request"), st.sampled_from(IDS)),
    st.tuples(st.just("leave"), st.integers(0, 5)),
    st.tuples(st.just("finish"), st.integers(0, 5)),
    st.tuples(st.just("load succeeds"), st.integers(0, 3)),
    st.tuples(st.just("load fails"), st.integers(0, 3)),
    st.tuples(st.just("time passes"), st.integers(1, 10)),
    st.tuples(st.just("let run"), st.integers(0, 6)),
    st.tuples(st.just("stop"), st.just(0)),
)


class Run:
    """One random life of a registry."""

    def __init__(self, models: Path) -> None:
        self.factory = FakeFactory()
        self.now = 0.0
        self.registry = ModelRegistry(
            RegistryConfig(data_dir=models, models_dir=models),
            self.factory.start,
            sources=[DirectorySource(models)],
            admission=Admission(None, available=lambda: None),
            clock=lambda: self.now,
        )
        self.requests: list[tuple[asyncio.Task[None], asyncio.Event]] = []
        self.held = 0
        self.is_stopping = False
        self.stop_task: asyncio.Task[None] | None = None

    async def request(self, model_id: str, done: asyncio.Event) -> None:
        try:
            async with self.registry.lease(model_id) as lease:
                self.held += 1
                try:
                    assert lease.card.id == model_id
                    assert lease.card.state == "ready"
                    assert not self.is_stopping, "a lease was given after stop"
                    await done.wait()
                finally:
                    self.held -= 1
        except NibbleError:
            pass

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
            case "stop", _ if self.stop_task is None:
                self.is_stopping = True
                self.stop_task = asyncio.create_task(self.registry.stop())
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
            assert not self.factory.doubled, "two loads of one model at once"
        for _, done in self.requests:
            done.set()
        await self.registry.stop()
        if self.stop_task is not None:
            await self.stop_task
        await asyncio.gather(*(task for task, _ in self.requests), return_exceptions=True)
        self.check_the_end()

    def check_the_end(self) -> None:
        for task, _ in self.requests:
            assert task.cancelled() or task.exception() is None
        assert self.held == 0
        assert not self.factory.under_way
        assert not self.factory.doubled
        assert all(engine.is_stopped for engine in self.factory.engines), "an engine was left running"
        for card in self.registry.cards():
            assert card.state in ("registered", "unloaded", "failed")
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_any_order_of_events_keeps_the_promises(steps: list[tuple[str, str | int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for model_id in IDS:
            write_gguf(Path(directory, f"{model_id}.gguf"))
        asyncio.run(Run(Path(directory)).live(steps))
