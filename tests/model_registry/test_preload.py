"""What is loaded at start: what was named, or the first model that can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import (
    ModelLoadFailed,
    ModelNotFound,
)
from tests.model_registry.gated_house import House


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
