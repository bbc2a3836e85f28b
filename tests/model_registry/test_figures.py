"""What the registry counts: unloading loses no totals, and why it unloaded is told."""

from __future__ import annotations

from pathlib import Path

from engine.errors import ModelLoadFailed
from model_registry.figures import ModelFigures
from tests.model_registry.test_lifecycle import House


def figure(house: House, model_id: str) -> ModelFigures:
    return next(each for each in house.registry.figures() if each.id == model_id)


async def test_evictions_are_counted_by_reason(tmp_path: Path) -> None:
    house = await House(tmp_path, rooms=1).started()
    await house.use("beta")
    await house.use("alpha")
    assert house.registry.evictions == {("alpha", "memory"): 1, ("beta", "memory"): 1}
    (house.models / "alpha.gguf").unlink()
    await house.looked()
    assert house.registry.evictions["alpha", "replaced"] == 1
    await house.registry.stop()
    assert sum(house.registry.evictions.values()) == 3, "the end of the server is no eviction"


async def test_an_idle_model_is_counted_as_idle(tmp_path: Path) -> None:
    house = await House(tmp_path, keep_alive_s=0.0).started()
    await house.use("alpha")
    await house.factory.engines[0].stopped.wait()
    assert house.registry.evictions == {("alpha", "idle"): 1}
    await house.registry.stop()


async def test_totals_are_those_of_all_engines_of_a_model(tmp_path: Path) -> None:
    house = await House(tmp_path, rooms=1).started()
    for engine_number in (1, 2):
        engine = await house.use("alpha")
        engine.stats.generation_tokens_total = 10 * engine_number
        engine.stats.running = 3
        engine.restarts = engine_number + 1
        engine.stalls = engine_number
        await house.use("beta")
    seen = figure(house, "alpha")
    assert seen.stats is not None
    assert not seen.is_loaded
    assert (seen.stats.generation_tokens_total, seen.stats.running, seen.restarts) == (30, 0, 5)
    await house.use("alpha")
    seen = figure(house, "alpha")
    assert seen.stats is not None
    assert (seen.is_loaded, seen.stats.generation_tokens_total, seen.restarts) == (True, 30, 5)
    assert seen.stalls == 3
    assert figure(house, "gamma").stats is None
    await house.registry.stop()


async def test_an_engine_that_gave_up_leaves_its_totals(tmp_path: Path) -> None:
    house = await House(tmp_path).started()
    engine = house.factory.engines[0]
    engine.stats.generation_tokens_total = 5
    engine.failure = ModelLoadFailed("it keeps dying")
    seen = figure(house, "alpha")
    assert seen.stats is not None
    assert (seen.is_loaded, seen.stats.generation_tokens_total) == (False, 5)
    await house.registry.stop()
