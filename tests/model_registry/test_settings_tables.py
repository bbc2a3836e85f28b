"""Settings of ``nibble.toml`` that name a model by its id, by an alias, and not at all."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from model_registry.config import RegistryConfig
from model_registry.model_settings import ModelSettings
from model_registry.settings_tables import lost_tables, table_of
from model_registry.shelf import Shelf
from model_registry.sources.directory import DirectorySource
from model_registry.store.model_store import ModelStore
from tests.model_registry.fake_engine import write_gguf


def shelf_of(models: Path, tables: dict[str, ModelSettings]) -> tuple[Shelf, RegistryConfig]:
    config = RegistryConfig(data_dir=models.parent, models_dir=models, models=tables)
    return Shelf([DirectorySource(models)], ModelStore.in_directory(models.parent), config), config


def test_what_is_said_by_the_id_counts_more_than_by_an_alias(models: Path) -> None:
    ModelStore.in_directory(models.parent).add_aliases("alpha", ["GPT-4"])
    tables = {"gpt-4": ModelSettings(context=77, parallel=2), "alpha": ModelSettings(context=99)}
    shelf, config = shelf_of(models, tables)
    shelf.fill()
    assert shelf.problems == ()
    assert shelf.named("alpha").settings(config) == ModelSettings(context=99, parallel=2)
    assert shelf.named("beta").settings(config) == ModelSettings()


def test_one_of_no_model_is_told_with_the_nearest(models: Path) -> None:
    shelf, _ = shelf_of(models, {"gama": ModelSettings(context=77)})
    shelf.fill()
    assert shelf.problems == (
        "the settings [models.gama] are those of no model that is here: the nearest known is 'gamma'",
    )
    assert "'nibble list' tells the ids" in next(lost_tables({"zzz": ModelSettings()}, ["alpha"], {}))


def test_a_look_tells_when_its_model_goes_and_is_content_when_it_comes(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shelf, _ = shelf_of(models, {"gamma": ModelSettings(context=77)})
    shelf.fill()
    assert shelf.problems == ()
    (models / "gamma.gguf").unlink()
    with caplog.at_level(logging.WARNING, "nibble.registry"):
        look = shelf.look()
        assert look is not None
        shelf.take(look)
    assert "[models.gamma]" in caplog.text
    write_gguf(models / "gamma.gguf")
    for _ in range(2):
        look = shelf.look()
        assert look is not None
        shelf.take(look)
    assert shelf.problems == ()


def test_aliases_of_models_with_adapters_are_no_models() -> None:
    told = list(lost_tables({"poet": ModelSettings()}, ["alpha"], {"poet": "alpha:poet"}))
    assert len(told) == 1
    assert table_of({"poet": ModelSettings(context=77)}, "alpha", ()) == ModelSettings()
