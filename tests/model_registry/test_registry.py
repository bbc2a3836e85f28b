"""The registry against engines that do nothing, with gates instead of time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from engine.errors import (
    InsufficientMemory,
    InternalError,
    ModelLoadFailed,
    ModelNotFound,
    QueueFull,
)
from model_registry.model_settings import ModelSettings
from model_registry.registry import ModelRegistry
from model_registry.store.model_store import ModelStore
from tests.model_registry.fake_engine import write_gguf
from tests.model_registry.gated_house import House, hold, settle


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


async def test_no_more_may_wait_for_a_load_than_for_the_model(models: Path) -> None:
    house = await House(models, queue_limit=2).started()
    done = asyncio.Event()
    waiting = [asyncio.create_task(hold(house.registry, "beta", done)) for _ in range(2)]
    load = await house.factory.reached(2)
    await settle()
    with pytest.raises(QueueFull, match="2 requests wait for model 'beta' to load") as caught:
        await hold(house.registry, "beta", done)
    assert caught.value.retry_after_s
    load.succeed()
    done.set()
    await asyncio.gather(*waiting)
    await asyncio.gather(*(hold(house.registry, "beta", done) for _ in range(5)))
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
    holder = asyncio.create_task(hold(house.registry, "alpha", asyncio.Event()))
    await settle()
    with pytest.raises(InsufficientMemory, match=r"needs about 201 MB and 150 MB are free"):
        await hold(house.registry, "beta", asyncio.Event())
    assert house.registry.card("beta").state == "failed"
    assert len(house.factory.loads) == 1
    holder.cancel()
    await asyncio.wait({holder})
    await house.registry.stop()


async def test_memory_of_a_load_under_way_counts_as_taken_until_it_has_ended(models: Path) -> None:
    house = await House(models, available=300_000_000).started()
    done = asyncio.Event()
    holder = asyncio.create_task(hold(house.registry, "alpha", done))
    first = asyncio.create_task(hold(house.registry, "beta", done))
    load = await house.factory.reached(2)
    second = asyncio.create_task(hold(house.registry, "gamma", done))
    await settle()
    assert len(house.factory.loads) == 2, "what beta may take is not there"
    load.fail(ModelLoadFailed("its file is damaged"))
    (await house.factory.reached(3)).succeed()
    done.set()
    assert (await second).card.id == "gamma"
    with pytest.raises(ModelLoadFailed):
        await first
    await holder
    await house.registry.stop()


async def test_what_no_end_of_a_load_would_help_is_refused_at_once(models: Path) -> None:
    house = await House(models, available=200_000_000).started()
    done = asyncio.Event()
    holder = asyncio.create_task(hold(house.registry, "alpha", done))
    await settle()
    with pytest.raises(InsufficientMemory, match="needs about 201 MB and 200 MB are free"):
        await hold(house.registry, "gamma", done)
    done.set()
    await holder
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


@pytest.mark.parametrize("turns", range(1, 8))
async def test_an_engine_that_dies_as_soon_as_it_is_there_is_given_to_nobody(
    models: Path, turns: int
) -> None:
    """``turns`` of the event loop later: also between the end of the load and the turn of who waits for it."""
    house = await House(models).started()

    async def is_given_alive() -> bool:
        async with house.registry.lease("beta") as lease:
            return lease.engine.failure is None

    waiting = asyncio.create_task(is_given_alive())
    load = await house.factory.reached(2)
    before = len(house.factory.engines)
    load.succeed()
    for _ in range(turns):
        await asyncio.sleep(0)
    assert len(house.factory.engines) == before + 1
    house.factory.engines[-1].die(ModelLoadFailed("keeps dying"))
    with suppress(ModelLoadFailed):
        assert await waiting
    await house.registry.stop()


async def test_an_alias_means_a_model_and_is_no_model(models: Path) -> None:
    ModelStore.in_directory(models.parent).add_aliases("alpha", ["gpt-4o-mini", "beta"])
    house = await House(models, preload=("gpt-4o-mini", "alpha")).started()
    assert house.registry.preload == ("alpha",)
    async with house.registry.lease("gpt-4o-mini") as lease:
        assert lease.card.id == "alpha"
    assert house.registry.knows("gpt-4o-mini")
    assert [card.id for card in house.registry.cards()] == ["alpha", "beta", "gamma"]
    assert house.registry.card("beta").id == "beta", "an id means its own model, whatever an alias says"
    with pytest.raises(ModelNotFound, match="nearest known: 'gpt-4o-mini'"):
        house.registry.card("gpt-4o")
    await house.registry.stop()


async def test_the_file_says_more_than_the_store_and_that_more_than_the_rest(models: Path) -> None:
    ModelStore.in_directory(models.parent).set_settings(
        "beta", ModelSettings(context=32, cache_type="q8_0", embed=True, kv_budget=7)
    )
    house = House(models, preload=("beta",))
    await house.registry.start()
    config = (await house.factory.reached(1)).config
    assert (config.context, config.threads, config.cache_type) == (64, 3, "q8_0")
    assert (config.embeds, config.kv_budget_bytes) == (True, 7)
    await house.registry.stop()


async def test_a_store_that_cannot_be_read_is_told_and_harms_nothing(models: Path) -> None:
    (models.parent / "models.sqlite3").write_bytes(b"damaged, and longer than a header of a database " * 9)
    house = await House(models).started()
    assert any("move it away" in problem for problem in house.registry.problems)
    await house.registry.stop()
