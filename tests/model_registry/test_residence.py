"""Models loaded and unloaded by hand, what is told of them, and what is said of them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from engine.config import EngineStats
from engine.errors import (
    InsufficientMemory,
    InvalidRequest,
    ModelBusy,
    ModelLoadFailed,
    ModelNotFound,
    ModelUnavailable,
)
from engine.process_memory import ProcessMemory
from model_registry.amendment import Amendment
from model_registry.model_settings import ModelSettings
from model_registry.registry import ModelRegistry
from model_registry.sources.directory import DirectorySource
from model_registry.store.model_store import ModelStore
from tests.fakes.facts import facts
from tests.model_registry.fake_engine import FakeFactory, write_gguf
from tests.model_registry.test_lifecycle import House


async def test_a_model_is_loaded_and_unloaded_by_hand(tmp_path: Path) -> None:
    house = await House(tmp_path).started()
    await house.registry.load("beta")
    await house.registry.load("beta")
    assert house.loaded() == ["alpha", "beta"]
    await house.registry.unload("beta")
    await house.registry.unload("beta")
    assert house.loaded() == ["alpha"]
    assert (await house.use("beta")).facts is not None, "the next request loads it again"
    for act in (house.registry.load, house.registry.unload):
        with pytest.raises(ModelNotFound):
            await act("delta")
    await house.registry.stop()


async def test_a_load_by_hand_makes_room_and_does_not_wait_out_a_failure(tmp_path: Path) -> None:
    house = House(tmp_path, rooms=1)
    house.factory.auto = False
    await house.registry.start()
    (await house.factory.reached(1)).succeed()
    await house.registry.preloaded()
    failing = asyncio.create_task(house.registry.load("beta"))
    (await house.factory.reached(2)).fail(ModelLoadFailed("broken: mend it"))
    with pytest.raises(ModelLoadFailed):
        await failing
    assert house.loaded() == [], "alpha made room"
    with pytest.raises(ModelLoadFailed):
        await house.registry.lease("beta").__aenter__()
    again = asyncio.create_task(house.registry.load("beta"))
    (await house.factory.reached(3)).succeed()
    await again
    assert house.loaded() == ["beta"]
    await house.registry.stop()


async def test_a_pinned_model_goes_by_hand_and_a_busy_one_only_by_force(tmp_path: Path) -> None:
    house = await House(tmp_path, models={"alpha": ModelSettings(pin=True)}).started()
    async with house.registry.lease("alpha"):
        with pytest.raises(ModelBusy, match="1 requests hold 'alpha' and 0 wait for it"):
            await house.registry.unload("alpha")
        with pytest.raises(ModelBusy):
            await house.registry.unload("alpha", wait_s=0.01)
        assert house.loaded() == ["alpha"]
        await house.registry.unload("alpha", force=True)
        assert house.loaded() == []
        assert (await house.use("alpha")) is house.factory.engines[1]
    await house.registry.unload("alpha")
    assert house.loaded() == []
    await house.registry.stop()


async def test_an_unload_waits_for_the_last_request(tmp_path: Path) -> None:
    house = await House(tmp_path).started()
    async with house.registry.lease("alpha"):
        unload = asyncio.create_task(house.registry.unload("alpha", wait_s=3600))
        async with house.registry.lease("alpha"):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not unload.done()
        assert house.loaded() == ["alpha"]
    await unload
    assert house.loaded() == []
    await house.registry.stop()


async def test_a_load_is_busy_while_somebody_waits_for_it_and_cancelled_by_force(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.factory.auto = False
    await house.registry.start()
    load = await house.factory.reached(1)
    waiters = [asyncio.create_task(house.use("alpha")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ModelBusy, match="0 requests hold 'alpha' and 2 wait for it"):
        await house.registry.unload("alpha")
    await house.registry.unload("alpha", force=True)
    assert load.is_cancelled
    for waiter in waiters:
        with pytest.raises(ModelUnavailable):
            await waiter
    await house.registry.preloaded()
    assert house.registry.card("alpha").state == "unloaded"
    house.factory.auto = True
    await house.use("alpha")
    await house.registry.stop()


async def test_a_load_that_nobody_waits_for_is_simply_cancelled(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.factory.auto = False
    await house.registry.start()
    load = await house.factory.reached(1)
    await house.registry.unload("alpha")
    assert load.is_cancelled
    await house.registry.stop()


async def test_two_requests_wait_for_one_load_that_outlives_whoever_leaves(tmp_path: Path) -> None:
    house = House(tmp_path, keep_alive_s=1000.0)
    house.factory.auto = False
    await house.registry.start()
    (await house.factory.reached(1)).succeed()
    waiters = [asyncio.create_task(house.use("beta")) for _ in range(3)]
    load = await house.factory.reached(2)
    for waiter in waiters[:2]:
        waiter.cancel()
    await asyncio.wait(waiters[:2])
    assert not load.is_cancelled
    load.succeed()
    await waiters[2]
    assert len(house.factory.loads) == 2
    # And one whose only client leaves: it is loaded, idle, and its time runs.
    alone = asyncio.create_task(house.use("gamma"))
    load = await house.factory.reached(3)
    alone.cancel()
    load.succeed()
    await house.registry.preloaded()
    use = house.registry.detail("gamma").use
    assert use is not None
    assert (use.leases, use.waiting) == (0, 0)
    assert use.keep_alive_left_s is not None
    assert use.keep_alive_left_s > 900
    await house.registry.stop()


async def test_a_model_that_nobody_has_used_yet_has_a_minute_at_least(tmp_path: Path) -> None:
    house = await House(tmp_path, keep_alive_s=0.0).started()
    use = house.registry.detail("alpha").use
    assert use is not None
    assert use.keep_alive_left_s is not None
    assert 50 < use.keep_alive_left_s <= 60
    await house.use("alpha")
    await house.factory.engines[0].stopped.wait()
    await house.registry.stop()


async def test_a_server_whose_models_are_all_idle_and_unloaded_is_ready(tmp_path: Path) -> None:
    house = await House(tmp_path).started()
    await house.registry.unload("alpha")
    assert house.registry.is_ready, "the next request is answered"
    await house.registry.stop()
    assert not house.registry.is_ready


async def test_all_that_is_known_is_told(tmp_path: Path) -> None:
    house = await House(tmp_path, models={"beta": ModelSettings(pin=True, context=99)}).started()
    detail = house.registry.detail("alpha")
    assert (detail.state, detail.facts, detail.use is None) == ("ready", facts(), False)
    assert detail.memory.resident_bytes is None
    engine = house.factory.engines[0]
    engine.memory = ProcessMemory(resident_bytes=300, anonymous_bytes=200)
    engine.stats = EngineStats(running=1, waiting=2, generation_tokens_total=30)
    engine.stats.step_seconds_total.total = 0.5
    async with house.registry.lease("alpha"):
        detail = house.registry.detail("alpha")
        assert detail.use is not None
        assert (detail.use.leases, detail.use.idle_s, detail.use.tokens_per_s) == (1, None, 60)
        assert (detail.memory.resident_bytes, detail.memory.anonymous_bytes) == (300, 200)
    beta = house.registry.detail("beta")
    assert (beta.is_pinned, beta.configured.context, beta.settings.context) == (True, 99, None)
    assert (beta.state, beta.use, beta.facts) == ("registered", None, None)
    assert [each.id for each in house.registry.details()] == ["alpha", "beta", "gamma"]
    await house.registry.stop()


async def test_words_are_kept_at_once_or_refused_whole(tmp_path: Path) -> None:
    house = await House(tmp_path).started()
    amendment = Amendment(
        aliases=("gpt-4o", "a"), tags=("b", "a"), notes="x", settings=ModelSettings(context=64)
    )
    await house.registry.amend("alpha", amendment)
    detail = house.registry.detail("gpt-4o")
    assert (detail.id, detail.aliases, detail.tags, detail.notes) == (
        "alpha",
        ("a", "gpt-4o"),
        ("a", "b"),
        "x",
    )
    assert detail.is_outdated, "it is loaded with another context"
    await house.registry.unload("alpha")
    assert (await house.use("alpha")).config.context == 64
    assert not house.registry.detail("alpha").is_outdated
    await house.registry.amend("alpha", Amendment(aliases=("gpt-4o",)))
    assert house.registry.detail("alpha").notes == "x", "what is not given stays"
    assert not house.registry.knows("a")
    for wrong in (("gpt-4o",), ("alpha",), ("new", "two words")):
        with pytest.raises(InvalidRequest):
            await house.registry.amend("beta", Amendment(aliases=wrong, notes="lost"))
        assert not house.registry.detail("beta").notes
    with pytest.raises(InvalidRequest, match="another name of 'alpha'"):
        await house.registry.amend("gpt-4o", Amendment(notes="x"))
    assert ModelStore.in_directory(tmp_path).record("alpha").aliases == ("gpt-4o",)
    await house.registry.stop()


async def test_a_new_keep_alive_counts_at_once(tmp_path: Path) -> None:
    house = await House(tmp_path).started()
    await house.use("alpha")
    await house.registry.amend("alpha", Amendment(settings=ModelSettings(keep_alive_s=0)))
    await house.factory.engines[0].stopped.wait()
    await house.registry.stop()


class Machine:
    """A registry over ``small`` and ``large`` on a machine of so many free bytes, which loaded models take."""

    def __init__(self, root: Path, free: int) -> None:
        from msgspec.structs import replace

        from engine.config import EngineConfig
        from model_registry.admission import Admission
        from model_registry.config import RegistryConfig

        models = root / "models"
        models.mkdir()
        write_gguf(models / "small.gguf")
        with write_gguf(models / "large.gguf").open("r+b") as file:
            file.truncate(2_000_000_000)  # sparse
        self.factory = FakeFactory(auto=True)
        config = replace(
            RegistryConfig(data_dir=root, models_dir=models, preload=("small",)),
            engine=EngineConfig(model_id="", model_path="", kv_budget_bytes=100_000_000),
        )
        self.free = free
        self.registry = ModelRegistry(
            config,
            self.factory.start,
            sources=[DirectorySource(models)],
            admission=Admission(config, available=self.available),
        )

    def available(self) -> int:
        running = [engine for engine in self.factory.engines if not engine.is_stopped]
        return self.free - 300_000_000 * len(running)


async def test_weights_that_exceed_the_memory_load_alone_with_a_warning(tmp_path: Path) -> None:
    machine = Machine(tmp_path, free=1_000_000_000)
    await machine.registry.start()
    await machine.registry.preloaded()
    await machine.registry.load("large")
    assert machine.registry.card("small").state == "unloaded"
    detail = machine.registry.detail("large")
    assert detail.warning is not None
    assert "needs about 2.2 GB, and this machine lends 1.0 GB" in detail.warning
    assert re.search(r"at some [\d.,]+ s a token", detail.warning)
    config = machine.factory.engines[1].config
    assert config.spares_memory, "its weights stay mapped"
    assert not machine.factory.engines[0].config.spares_memory
    assert not detail.is_outdated
    await machine.registry.load("small")
    assert machine.registry.detail("small").warning is None
    await machine.registry.stop()


async def test_a_busy_model_is_not_sent_away_for_one_that_would_crawl(tmp_path: Path) -> None:
    machine = Machine(tmp_path, free=1_000_000_000)
    await machine.registry.start()
    await machine.registry.preloaded()
    async with machine.registry.lease("small"):
        with pytest.raises(InsufficientMemory, match=r"needs about 2167 MB and 700 MB are free"):
            await machine.registry.load("large")
    assert machine.registry.card("small").state == "ready"
    await machine.registry.stop()


async def test_what_is_impossible_is_refused_with_the_numbers(tmp_path: Path) -> None:
    machine = Machine(tmp_path, free=150_000_000)
    await machine.registry.start()
    await machine.registry.preloaded()
    for name in ("small", "large"):
        with pytest.raises(InsufficientMemory, match="150 MB are free"):
            await machine.registry.load(name)
    assert not machine.factory.loads
    await machine.registry.stop()
