"""Models with adapters: ids of their own, loaded once, with their model."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.adapter import Adapter
from engine.errors import ModelNotFound
from model_registry.config import RegistryConfig
from model_registry.model_adapter import ModelAdapter, read_model_adapter
from model_registry.registry import ModelRegistry
from model_registry.sources.directory import DirectorySource
from tests.model_registry.fake_engine import FakeFactory, write_gguf


def _registry(
    root: Path, *adapters: ModelAdapter, preload: tuple[str, ...] = (), embed: tuple[str, ...] = ()
) -> tuple[ModelRegistry, FakeFactory]:
    for name in ("alpha", "beta"):
        write_gguf(root / f"{name}.gguf")
    factory = FakeFactory()
    config = RegistryConfig(data_dir=root, models_dir=root, preload=preload, embed=embed, adapters=adapters)
    return ModelRegistry(config, factory.start, sources=[DirectorySource(root)]), factory


def _adapter(model: str, name: str) -> ModelAdapter:
    return ModelAdapter(model, Adapter(name, f"/somewhere/{name}.lora"))


async def test_an_adapter_is_an_id_of_its_own_and_is_loaded_with_its_model(tmp_path: Path) -> None:
    poet, clerk, other = _adapter("alpha", "poet"), _adapter("alpha", "clerk"), _adapter("beta", "poet")
    registry, factory = _registry(tmp_path, poet, clerk, other, preload=("alpha:poet",))
    await registry.start()
    assert registry.preload == ("alpha",)
    load = await factory.reached(1)
    assert load.config.adapters == (poet.adapter, clerk.adapter)
    load.succeed()
    await registry.preloaded()
    assert [card.id for card in registry.cards()] == [
        "alpha",
        "alpha:clerk",
        "alpha:poet",
        "beta",
        "beta:poet",
    ]
    async with registry.lease("alpha:poet") as lease, registry.lease("alpha") as bare:
        assert (lease.card.id, lease.card.parent, lease.card.adapter) == ("alpha:poet", "alpha", "poet")
        assert (bare.card.parent, bare.card.adapter) == (None, None)
        assert lease.engine is bare.engine
        assert lease.card.state == bare.card.state == "ready"
    prints = {card.fingerprint for card in registry.cards() if card.id.startswith("alpha")}
    assert len(prints) == 3, "each answers otherwise"
    assert registry.knows("alpha:poet")
    assert [figures.id for figures in registry.figures()] == ["alpha", "beta"]
    await registry.stop()


async def test_an_adapter_that_is_none_is_not_found_and_the_nearest_is_named(tmp_path: Path) -> None:
    registry, _ = _registry(tmp_path, _adapter("alpha", "poet"))
    registry.scan()
    with pytest.raises(ModelNotFound, match="'alpha:poet'"):
        registry.card("alpha:poem")


@pytest.mark.parametrize("model", ["gamma", "alpha:poet"])
def test_an_adapter_for_no_model_ends_the_start(model: str, tmp_path: Path) -> None:
    registry, _ = _registry(tmp_path, _adapter("alpha", "poet"), _adapter(model, "clerk"))
    with pytest.raises(ModelNotFound, match=f"'{model}' does not exist"):
        registry.scan()


def test_an_adapted_model_is_none_to_embed_with(tmp_path: Path) -> None:
    registry, _ = _registry(tmp_path, _adapter("alpha", "poet"), embed=("alpha:poet",))
    with pytest.raises(ModelNotFound):
        registry.scan()


def test_a_name_is_read_up_to_the_first_equals_sign() -> None:
    read = read_model_adapter("qwen2.5:0.5b:poet=/models/a=b:c.gguf")
    assert (read.model, read.adapter.name, read.adapter.path) == (
        "qwen2.5:0.5b",
        "poet",
        "/models/a=b:c.gguf",
    )
    assert read.id == "qwen2.5:0.5b:poet"


@pytest.mark.parametrize(
    "text", ["", "poet=p.gguf", "alpha:poet", "alpha:poet=", ":poet=p.gguf", "alpha:po et=p", "a:=p"]
)
def test_what_names_no_adapter_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"adapter|MODEL:NAME=PATH"):
        read_model_adapter(text)
