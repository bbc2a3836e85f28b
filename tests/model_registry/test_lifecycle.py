"""Files that come, change and go under a running registry; models that make room, and those that stay."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import msgspec
import pytest

from engine.config import EngineConfig
from engine.errors import InsufficientMemory, ModelNotFound
from model_registry.admission import Admission
from model_registry.config import RegistryConfig
from model_registry.memory import estimate_bytes
from model_registry.model_settings import ModelSettings
from model_registry.registry import ModelRegistry
from model_registry.shelf import Shelf
from model_registry.sources.directory import DirectorySource
from model_registry.store.model_store import ModelStore
from tests.fakes.facts import facts
from tests.model_registry.fake_engine import GGUF_BYTES, FakeEngine, FakeFactory, write_gguf

_ONE = estimate_bytes(GGUF_BYTES, facts().kv_bytes)
"""What a model of ``write_gguf`` takes."""


class House:
    """A registry over ``alpha``, ``beta`` and ``gamma`` whose loads succeed at once."""

    def __init__(self, root: Path, rooms: float = 9, **config: object) -> None:
        self.models = root / "models"
        self.models.mkdir()
        for name in ("alpha", "beta", "gamma"):
            write_gguf(self.models / f"{name}.gguf")
        self.factory = FakeFactory(auto=True)
        self.now = 0.0
        whole = msgspec.structs.replace(
            RegistryConfig(
                data_dir=root,
                models_dir=self.models,
                preload=("alpha",),
                memory_budget_bytes=int(rooms * _ONE),
                engine=EngineConfig(model_id="", model_path="", kv_budget_bytes=facts().kv_bytes),
            ),
            **config,
        )
        self.config = whole
        self.registry = ModelRegistry(
            whole,
            self.factory.start,
            sources=[DirectorySource(self.models)],
            admission=Admission(whole, available=lambda: None),
            clock=self.clock,
        )

    def clock(self) -> float:
        self.now += 1
        return self.now

    async def started(self) -> House:
        await self.registry.start()
        await self.registry.preloaded()
        return self

    async def use(self, model_id: str) -> FakeEngine:
        async with self.registry.lease(model_id) as lease:
            assert isinstance(lease.engine, FakeEngine)
            return lease.engine

    async def looked(self) -> list[str]:
        """Ids after a look."""
        await self.registry.look()
        return [card.id for card in self.registry.cards()]

    def loaded(self) -> list[str]:
        return [engine.config.model_id for engine in self.factory.engines if not engine.is_stopped]


async def test_the_longest_unused_model_makes_room(tmp_path: Path) -> None:
    house = await House(tmp_path, rooms=2).started()
    await house.use("beta")
    await house.use("alpha")
    await house.use("gamma")
    assert house.loaded() == ["alpha", "gamma"]
    assert house.registry.card("beta").state == "unloaded"
    await house.use("beta")
    assert house.loaded() == ["gamma", "beta"]
    await house.registry.stop()


async def test_busy_and_pinned_models_stay_and_the_refusal_has_the_numbers(tmp_path: Path) -> None:
    house = House(tmp_path, rooms=2.5, models={"beta": ModelSettings(pin=True)})
    await house.started()
    await house.use("beta")
    async with house.registry.lease("alpha"):
        with pytest.raises(
            InsufficientMemory, match=r"needs about \d+ MB and \d+ of the \d+ MB of memory_budget"
        ):
            await house.use("gamma")
        assert house.loaded() == ["alpha", "beta"], "nobody goes in vain"
    house.now += 60
    await house.use("gamma")
    assert house.loaded() == ["beta", "gamma"]
    await house.registry.stop()


async def test_a_budget_binds_the_first_model_too(tmp_path: Path) -> None:
    house = await House(tmp_path, rooms=0.5).started()
    with pytest.raises(InsufficientMemory, match="memory_budget"):
        await house.use("alpha")
    assert not house.loaded()
    await house.registry.stop()


async def test_an_idle_model_is_unloaded_after_its_time_unless_pinned(tmp_path: Path) -> None:
    models = {"beta": ModelSettings(pin=True), "gamma": ModelSettings(keep_alive_s=1000)}
    house = await House(tmp_path, keep_alive_s=0.0, models=models).started()
    for name in ("alpha", "beta", "gamma"):
        await house.use(name)
    engine = house.factory.engines[0]
    await engine.stopped.wait()
    assert house.loaded() == ["beta", "gamma"]
    again = await house.use("alpha")
    assert again is not engine
    await house.registry.stop()


async def test_a_request_for_a_model_that_is_being_unloaded_waits_and_loads_it_again(tmp_path: Path) -> None:
    house = await House(tmp_path, rooms=1).started()
    first = house.factory.engines[0]
    await asyncio.gather(house.use("beta"), house.use("alpha"), house.use("gamma"), return_exceptions=True)
    assert first.is_stopped
    house.now += 60
    assert not (await house.use("alpha")).config.embeds
    assert house.loaded() == ["alpha"]
    await house.registry.stop()


async def test_a_copied_file_appears_once_it_has_stopped_growing(tmp_path: Path) -> None:
    house = await House(tmp_path).started()
    assert await house.looked() == ["alpha", "beta", "gamma"]
    copy = house.models / "delta.gguf"
    write_gguf(copy)
    assert "delta" not in await house.looked(), "it may still be growing"
    write_gguf(copy, tail=b"more")
    assert "delta" not in await house.looked(), "it has grown"
    assert "delta" in await house.looked()
    assert house.registry.card("delta").file_bytes == 72
    await house.use("delta")
    await house.registry.stop()


async def test_a_removed_file_goes_and_whoever_holds_it_finishes(tmp_path: Path) -> None:
    house = await House(tmp_path).started()
    engine = house.factory.engines[0]
    async with house.registry.lease("alpha"):
        (house.models / "alpha.gguf").unlink()
        assert await house.looked() == ["beta", "gamma"]
        with pytest.raises(ModelNotFound):
            await house.use("alpha")
        assert not engine.is_stopped
    await engine.stopped.wait()
    await house.registry.stop()


async def test_a_replaced_file_is_another_model_of_the_same_id(tmp_path: Path) -> None:
    house = await House(tmp_path).started()
    old = house.factory.engines[0]
    write_gguf(house.models / "alpha.gguf", tail=b"other weights")
    await house.looked()
    assert await house.use("alpha") is old, "still settling"
    await house.looked()
    new = await house.use("alpha")
    assert new is not old
    await old.stopped.wait()
    assert house.loaded() == ["alpha"]
    await house.registry.stop()


async def test_a_file_removed_while_it_loads_leaves_nothing_behind(tmp_path: Path) -> None:
    house = await House(tmp_path).started()
    house.factory.auto = False
    waiting = asyncio.create_task(house.use("beta"))
    load = await house.factory.reached(2)
    (house.models / "beta.gguf").unlink()
    await house.looked()
    load.succeed()
    with pytest.raises(ModelNotFound):
        await waiting
    engine = house.factory.engines[1]
    await engine.stopped.wait()
    await house.registry.stop()


async def test_a_missing_shard_that_arrives_mends_the_model(tmp_path: Path) -> None:
    house = House(tmp_path)
    write_gguf(house.models / "big-00001-of-00002.gguf")
    await house.started()
    assert "big-00002-of-00002.gguf is missing" in str(house.registry.card("big").failure)
    write_gguf(house.models / "big-00002-of-00002.gguf")
    await house.looked()
    await house.looked()
    assert house.registry.card("big").state == "registered"
    await house.registry.stop()


async def test_an_alias_made_by_another_process_is_seen(tmp_path: Path) -> None:
    house = await House(tmp_path).started()
    store = ModelStore.in_directory(tmp_path)
    store.add_aliases("alpha", ["gpt-4o-mini"])
    store.set_settings("beta", ModelSettings(context=77))
    await house.looked()
    assert house.registry.card("gpt-4o-mini").id == "alpha"
    assert (await house.use("beta")).config.context == 77
    store.remove_aliases(["gpt-4o-mini"])
    await house.looked()
    assert not house.registry.knows("gpt-4o-mini")
    await house.registry.stop()


def test_a_look_at_what_has_not_changed_asks_no_source_twice(tmp_path: Path) -> None:
    write_gguf(tmp_path / "alpha.gguf")
    config = RegistryConfig(data_dir=tmp_path, models_dir=tmp_path)
    store = ModelStore.in_directory(tmp_path)
    shelf = Shelf([DirectorySource(tmp_path)], store, config)
    shelf.fill()
    assert shelf.look() is None
    store.describe("alpha", notes="x")
    look = shelf.look()
    assert look is not None
    assert shelf.take(look) == []
    assert shelf.look() is None


class _CountingSource(DirectorySource):
    """Lets the first look wait for a second one beside it, which must not come."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.inside = self.most = 0
        self.second = threading.Event()

    def signature(self) -> object:
        self.inside += 1
        self.most = max(self.most, self.inside)
        if self.inside > 1:
            self.second.set()
        self.second.wait(0.2)
        self.inside -= 1
        return super().signature()


async def test_looks_come_one_after_another(tmp_path: Path) -> None:
    write_gguf(tmp_path / "alpha.gguf")
    source = _CountingSource(tmp_path)
    config = RegistryConfig(data_dir=tmp_path, models_dir=tmp_path)
    registry = ModelRegistry(config, FakeFactory(auto=True).start, sources=[source])
    registry.scan()
    await asyncio.gather(*(registry.look() for _ in range(3)))
    assert source.most == 1
    await registry.stop()


async def test_other_settings_count_from_the_next_load_and_times_at_once(tmp_path: Path) -> None:
    house = await House(tmp_path).started()
    first = await house.use("alpha")
    assert first.config.context is None
    changed = msgspec.structs.replace(
        house.config, keep_alive_s=0.0, engine=msgspec.structs.replace(house.config.engine, context=64)
    )
    house.registry.check(changed)
    async with house.registry.lease("alpha"):
        house.registry.reconfigure(changed)
        assert not first.is_stopped, "it is in use"
    await first.stopped.wait()
    assert (await house.use("alpha")).config.context == 64
    with pytest.raises(ModelNotFound, match="model 'delta' does not exist"):
        house.registry.check(msgspec.structs.replace(changed, embed=("delta",)))
    await house.registry.stop()


async def test_a_model_that_is_idle_gets_its_new_time_and_one_that_is_unpinned_its_end(
    tmp_path: Path,
) -> None:
    house = await House(tmp_path, keep_alive_s=0.0, models={"alpha": ModelSettings(pin=True)}).started()
    engine = await house.use("alpha")
    house.registry.reconfigure(msgspec.structs.replace(house.config, models={}))
    await engine.stopped.wait()
    assert house.registry.evictions == {("alpha", "idle"): 1}
    await house.registry.stop()


async def test_a_smaller_budget_binds_what_is_loaded_next(tmp_path: Path) -> None:
    house = await House(tmp_path).started()
    await house.use("beta")
    house.registry.reconfigure(msgspec.structs.replace(house.config, memory_budget_bytes=int(1.5 * _ONE)))
    await house.use("gamma")
    assert house.loaded() == ["gamma"]
    await house.registry.stop()
