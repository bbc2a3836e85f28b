"""The registry against engines that do nothing, with gates instead of time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.errors import InsufficientMemory, InternalError, ModelLoadFailed, ModelNotFound, ModelUnavailable
from model_registry.admission import Admission
from model_registry.config import RegistryConfig
from model_registry.lease import Lease
from model_registry.registry import ModelRegistry
from model_registry.sources.directory import DirectorySource
from tests.model_registry.fake_engine import FakeFactory, write_gguf


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def models(tmp_path: Path) -> Path:
    directory = tmp_path / "models"
    directory.mkdir()
    for name in ("alpha", "Beta", "gamma"):
        write_gguf(directory / f"{name}.gguf")
    return directory


class House:
    """A registry with all that surrounds it."""

    def __init__(self, models: Path, preload: tuple[str, ...] = (), available: int | None = None) -> None:
        self.factory = FakeFactory()
        self.clock = Clock()
        self.registry = ModelRegistry(
            RegistryConfig(
                data_dir=models.parent,
                models_dir=models,
                preload=preload,
                engine=EngineConfig(model_id="", model_path="", context=512),
            ),
            self.factory.start,
            sources=[DirectorySource(models)],
            admission=Admission(None, available=lambda: available),
            clock=self.clock,
        )

    async def started(self) -> House:
        await self.registry.start()
        (await self.factory.reached(1)).succeed()
        await self.registry.preloaded()
        return self


async def hold(registry: ModelRegistry, model_id: str, until: asyncio.Event) -> Lease:
    async with registry.lease(model_id) as lease:
        await until.wait()
        return lease


async def settle() -> None:
    """Let every task that can run, run until it waits for something that only the test gives."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_first_model_of_the_directory_is_loaded_at_start(models: Path) -> None:
    house = House(models)
    await house.registry.start()
    load = await house.factory.reached(1)
    assert (load.config.model_id, load.config.context) == ("alpha", 512)
    assert load.config.model_path == str(models / "alpha.gguf")
    assert house.registry.card("alpha").state == "loading"
    assert not house.registry.is_ready
    load.succeed()
    await house.registry.preloaded()
    card = house.registry.card("alpha")
    assert card.state == "ready"
    assert card.facts is not None
    assert card.facts.context == 8192
    assert house.registry.is_ready
    assert [other.state for other in house.registry.cards()] == ["ready", "registered", "registered"]
    await house.registry.stop()


async def test_preload_names_the_models_to_load(models: Path) -> None:
    house = House(models, preload=("gamma", "beta"))
    await house.registry.start()
    await house.factory.reached(2)
    assert {load.config.model_id for load in house.factory.loads} == {"beta", "gamma"}
    await house.registry.stop()


async def test_an_unknown_preload_id_is_refused_before_anything_is_loaded(models: Path) -> None:
    house = House(models, preload=("alpah",))
    with pytest.raises(ModelNotFound, match="'alpha'"):
        await house.registry.start()
    assert not house.factory.loads


async def test_no_model_at_all_names_the_mend(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="make setup"):
        House(tmp_path / "none").registry.scan()


async def test_an_unknown_model_names_the_nearest(models: Path) -> None:
    house = await House(models).started()
    with pytest.raises(ModelNotFound, match="nearest known: 'gamma'") as caught:
        async with house.registry.lease("gama"):
            pass
    assert caught.value.param == "model"
    with pytest.raises(ModelNotFound, match="known: 'alpha', 'beta', 'gamma'"):
        house.registry.card("gpt-4o")
    await house.registry.stop()


async def test_many_requests_wait_for_one_load_and_one_that_leaves_takes_nothing_along(models: Path) -> None:
    house = await House(models).started()
    done = asyncio.Event()
    waiting = [asyncio.create_task(hold(house.registry, "beta", done)) for _ in range(5)]
    load = await house.factory.reached(2)
    await settle()
    waiting[0].cancel()
    await asyncio.wait({waiting[0]})
    assert not load.is_cancelled
    load.succeed()
    done.set()
    leases = await asyncio.gather(*waiting[1:])
    assert len({id(lease.engine) for lease in leases}) == 1
    assert len(house.factory.loads) == 2
    await house.registry.stop()


async def test_a_load_goes_on_when_everybody_has_left(models: Path) -> None:
    house = await House(models).started()
    waiting = asyncio.create_task(hold(house.registry, "beta", asyncio.Event()))
    load = await house.factory.reached(2)
    waiting.cancel()
    await asyncio.wait({waiting})
    load.succeed()
    await house.registry.preloaded()
    assert house.registry.card("beta").state == "ready"
    await house.registry.stop()
    assert all(engine.is_stopped for engine in house.factory.engines)


async def test_a_failed_load_is_remembered_and_tried_again_after_the_pause(models: Path) -> None:
    house = await House(models).started()
    waiting = [asyncio.create_task(hold(house.registry, "beta", asyncio.Event())) for _ in range(2)]
    (await house.factory.reached(2)).fail(ModelLoadFailed("the tensors are cut short: download it again"))
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [ModelLoadFailed, ModelLoadFailed]
    assert errors[0] is not errors[1]
    card = house.registry.card("beta")
    assert (card.state, card.failure) == ("failed", "the tensors are cut short: download it again")
    with pytest.raises(ModelLoadFailed, match="cut short"):
        await hold(house.registry, "beta", asyncio.Event())
    assert len(house.factory.loads) == 2
    house.clock.now += 5.0
    done = asyncio.Event()
    done.set()
    again = asyncio.create_task(hold(house.registry, "beta", done))
    (await house.factory.reached(3)).succeed()
    assert (await again).card.state == "ready"
    assert house.registry.card("beta").failure is None
    await house.registry.stop()


async def test_an_unforeseen_failure_of_a_load_reaches_the_waiters_too(models: Path) -> None:
    house = await House(models).started()
    waiting = asyncio.create_task(hold(house.registry, "beta", asyncio.Event()))
    (await house.factory.reached(2)).fail(OSError("no more processes"))
    with pytest.raises(InternalError, match="no more processes"):
        await waiting
    await house.registry.stop()


async def test_a_file_that_was_bad_at_the_scan_is_listed_and_loads_once_it_is_mended(models: Path) -> None:
    pointer = models / "aaa.gguf"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    house = await House(models).started()
    assert house.factory.loads[0].config.model_id == "alpha", "a failed file is no choice for the preload"
    card = house.registry.card("aaa")
    assert card.state == "failed"
    assert card.failure is not None
    assert "git lfs pull" in card.failure
    with pytest.raises(ModelLoadFailed, match="git lfs pull"):
        await hold(house.registry, "aaa", asyncio.Event())
    write_gguf(pointer)
    house.clock.now += 5.0
    done = asyncio.Event()
    done.set()
    mended = asyncio.create_task(hold(house.registry, "aaa", done))
    (await house.factory.reached(2)).succeed()
    await mended
    await house.registry.stop()


async def test_memory_is_asked_for_a_further_model_never_for_the_first(models: Path) -> None:
    house = await House(models, available=150_000_000).started()
    with pytest.raises(InsufficientMemory, match=r"needs about 201 MB and 150 MB are free"):
        await hold(house.registry, "beta", asyncio.Event())
    assert house.registry.card("beta").state == "failed"
    assert len(house.factory.loads) == 1
    await house.registry.stop()


async def test_memory_of_a_load_under_way_counts_as_taken(models: Path) -> None:
    house = await House(models, available=300_000_000).started()
    first = asyncio.create_task(hold(house.registry, "beta", asyncio.Event()))
    await house.factory.reached(2)
    with pytest.raises(InsufficientMemory, match="201 MB of them taken by models that load now"):
        await hold(house.registry, "gamma", asyncio.Event())
    await house.registry.stop()
    with pytest.raises(ModelUnavailable):
        await first


async def test_drain_waits_for_leases_and_refuses_new_ones(models: Path) -> None:
    house = await House(models).started()
    done = asyncio.Event()
    holder = asyncio.create_task(hold(house.registry, "alpha", done))
    await settle()
    draining = asyncio.create_task(house.registry.drain(60.0))
    await settle()
    assert not house.registry.is_ready
    assert not draining.done()
    with pytest.raises(ModelUnavailable, match="shutting down"):
        await hold(house.registry, "alpha", done)
    done.set()
    assert await draining
    await holder
    await house.registry.stop()
    assert house.registry.card("alpha").state == "unloaded"


async def test_drain_gives_up_at_its_limit(models: Path) -> None:
    house = await House(models).started()
    holder = asyncio.create_task(hold(house.registry, "alpha", asyncio.Event()))
    await settle()
    assert not await house.registry.drain(0.0)
    await house.registry.stop()
    assert house.factory.engines[0].is_stopped
    holder.cancel()
    await asyncio.wait({holder})


async def test_stop_cancels_loads_even_before_their_first_step(models: Path) -> None:
    house = House(models)
    await house.registry.start()
    await house.registry.stop()
    assert house.registry.card("alpha").state == "unloaded"
    assert not house.factory.engines
    await house.registry.stop()


async def test_readiness_follows_the_engine(models: Path) -> None:
    house = await House(models).started()
    house.factory.engines[0].is_ready = False
    assert not house.registry.is_ready
    house.factory.engines[0].is_ready = True
    assert house.registry.is_ready
    await house.registry.stop()


async def test_figures_load_nothing(models: Path) -> None:
    house = await House(models).started()
    figures = {figure.id: figure for figure in house.registry.figures()}
    assert figures["alpha"].stats is house.factory.engines[0].stats
    assert figures["beta"].stats is None
    assert len(house.factory.loads) == 1
    await house.registry.stop()


async def test_when_nobody_said_what_to_load_the_next_one_is_tried(models: Path) -> None:
    house = House(models)
    await house.registry.start()
    (await house.factory.reached(1)).fail(ModelLoadFailed("broken"))
    (await house.factory.reached(2)).succeed()
    await house.registry.preloaded()
    assert [card.state for card in house.registry.cards()] == ["failed", "ready", "registered"]
    await house.registry.stop()


async def test_what_was_named_is_loaded_and_nothing_in_its_place(models: Path) -> None:
    house = House(models, preload=("alpha",))
    await house.registry.start()
    (await house.factory.reached(1)).fail(ModelLoadFailed("broken"))
    await house.registry.preloaded()
    assert [card.state for card in house.registry.cards()] == ["failed", "registered", "registered"]
    assert not house.registry.is_hopeless
    await house.registry.stop()


async def test_all_failed_is_hopeless(models: Path) -> None:
    for name in ("Beta", "gamma"):
        (models / f"{name}.gguf").unlink()
    house = House(models)
    await house.registry.start()
    (await house.factory.reached(1)).fail(ModelLoadFailed("broken"))
    await house.registry.preloaded()
    assert house.registry.is_hopeless
    await house.registry.stop()


async def test_an_engine_that_gave_up_leaves_a_failed_model_that_loads_again_after_the_pause(
    models: Path,
) -> None:
    house = await House(models).started()
    async with house.registry.lease("alpha"):
        pass
    house.factory.engines[0].failure = ModelLoadFailed("keeps dying")
    assert (house.registry.card("alpha").state, house.registry.card("alpha").failure) == (
        "failed",
        "keeps dying",
    )
    assert not house.registry.is_ready
    with pytest.raises(ModelLoadFailed, match="keeps dying"):
        async with house.registry.lease("alpha"):
            pass
    house.clock.now += 60.0
    waiting = asyncio.create_task(_leased(house.registry, "alpha"))
    (await house.factory.reached(2)).succeed()
    assert (await waiting) == "ready"
    await house.registry.stop()


async def _leased(registry: ModelRegistry, model_id: str) -> str:
    async with registry.lease(model_id) as lease:
        return lease.card.state
