"""What deleting a model changes besides: told before, done whole, and nothing left that leads nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import ModelNotFound, ModelProtected
from model_registry.config import RegistryConfig
from model_registry.model_adapter import read_model_adapter
from model_registry.model_settings import ModelSettings
from model_registry.registry import ModelRegistry
from model_registry.sources.directory import DirectorySource
from model_registry.store.model_store import ModelStore
from tests.fixtures.tiny_gguf import write_tiny, write_tiny_adapter
from tests.model_registry.fake_engine import FakeFactory
from tests.model_registry.test_found_adapters import House as AdapterHouse
from tests.model_registry.test_found_adapters import house as _house
from tests.model_registry.test_twins import House

adapters = _house


async def test_deleting_an_original_tells_that_its_twin_answers_under_its_name_no_more(
    tmp_path: Path,
) -> None:
    house = House(tmp_path, models={"alpha": ModelSettings(temperature=0.3)})
    house.store.add_aliases("alpha", ["gpt-4o"])
    house.store.set_settings("alpha", ModelSettings(context=48, threads=2))
    house.store.set_settings("alpha-q4_0", ModelSettings(threads=1))
    await house.registry.start()
    await house.registry.preloaded()
    told = await house.registry.remove("alpha")
    assert [(each.model, each.text) for each in told] == [
        ("alpha", "its other names go with it: 'gpt-4o'"),
        (
            "alpha-q4_0",
            "requests for 'alpha' find no model any more: 'alpha-q4_0', which has answered them, keeps its own name"
            " alone ('nibble alias alpha alpha-q4_0' gives it that one, too)",
        ),
        ("alpha-q4_0", "'alpha-q4_0' is served without the settings of 'alpha': context, temperature"),
    ]
    assert house.store.records().keys() == {"alpha-q4_0"}
    assert await house.served_by("alpha-q4_0") == ("alpha-q4_0", "alpha-q4_0.gguf")
    for name in ("alpha", "gpt-4o"):
        with pytest.raises(ModelNotFound):
            await house.served_by(name)
    house.store.add_aliases("alpha-q4_0", ["alpha"])
    await house.look()
    assert await house.served_by("alpha") == ("alpha-q4_0", "alpha-q4_0.gguf"), "as it was told"
    await house.registry.stop()


async def test_deleting_a_twin_tells_that_its_original_answers_again(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.registry.start()
    told = await house.registry.remove("alpha-q4_0")
    assert [(each.model, each.text) for each in told] == [
        ("alpha", "'alpha' answers its requests itself again")
    ]
    assert house.store.record("alpha").twin is None
    assert await house.served_by("alpha") == ("alpha", "alpha.gguf")
    assert house.registry.problems == ()
    assert await house.registry.remove("beta") == ()
    await house.registry.stop()


async def test_deleting_a_model_tells_that_the_next_start_would_want_it(tmp_path: Path) -> None:
    write_tiny(tmp_path / "first.gguf")
    write_tiny(tmp_path / "second.gguf")
    store = ModelStore.in_directory(tmp_path)
    store.add_aliases("first", ["Mine"])
    config = RegistryConfig(data_dir=tmp_path, models_dir=tmp_path, preload=("Mine", "second"))

    def registry() -> ModelRegistry:
        factory = FakeFactory(auto=True)
        return ModelRegistry(config, factory.start, sources=[DirectorySource(tmp_path)], store=store)

    running = registry()
    await running.start()
    await running.preloaded()
    texts = [each.text for each in await running.remove("first")]
    assert (
        "the setting preload names 'Mine': take it out there, or the server does not start the next time"
        in texts
    )
    await running.stop()
    with pytest.raises(ModelNotFound):
        registry().scan()


async def test_deleting_a_model_tells_which_adapters_lose_theirs(adapters: AdapterHouse) -> None:
    path = adapters.put("poet")
    await adapters.registry.start()
    told = await adapters.registry.remove("narrow")
    assert [(each.model, each.text) for each in told] == [
        ("narrow:poet", f"'narrow:poet' goes with it; {path} stays, for another model")
    ]
    assert path.exists()
    assert adapters.ids() == ["wide"]


async def test_deleting_an_adapter_tells_who_else_is_served_with_its_file(adapters: AdapterHouse) -> None:
    write_tiny(adapters.root / "twin.gguf")
    adapters.put("poet")
    for model_id in ("narrow", "twin"):
        adapters.store.set_settings(model_id, ModelSettings(adapters=("poet",)))
    adapters.store.add_aliases("narrow:poet", ["bard"])
    await adapters.registry.start()
    told = await adapters.registry.remove("narrow:poet")
    assert [(each.model, each.text) for each in told] == [
        ("narrow:poet", "its other names go with it: 'bard'"),
        ("twin:poet", "'twin:poet' goes with it: it is the same file"),
    ]
    assert adapters.ids() == ["narrow", "twin", "wide"]


async def test_a_file_that_lies_elsewhere_is_not_deleted_with_the_setting_that_names_it(
    adapters: AdapterHouse,
) -> None:
    (adapters.root / "far").mkdir()
    far = write_tiny_adapter(adapters.root / "far" / "clerk.gguf")
    near = adapters.put("poet")
    entries = (f"clerk={far}", f"bard={near}")
    adapters.store.set_settings("narrow", ModelSettings(adapters=entries))
    await adapters.registry.start()
    with pytest.raises(ModelProtected) as refused:
        await adapters.registry.remove("narrow:clerk")
    assert refused.value.message == (
        f"'narrow:clerk' is {far}, which is not in the models directory and not nibble's to delete: take"
        f" 'clerk={far}' out of the setting adapters of 'narrow' (nibble set narrow adapters=bard={near})"
    )
    assert far.exists()
    await adapters.registry.remove("narrow:bard")
    assert not near.exists(), "in the models directory"
    assert adapters.store.record("narrow").settings == ModelSettings(adapters=(f"clerk={far}",))
    adapters.store.set_settings("narrow", ModelSettings())
    await adapters.looks()
    assert "narrow:clerk" not in adapters.ids(), "as it was told"


@pytest.mark.parametrize("is_path", [False, True])
@pytest.mark.parametrize("table", ["narrow", "gpt-4o"])
async def test_what_nibble_toml_names_is_not_deleted_behind_its_back(
    tmp_path: Path, table: str, is_path: bool
) -> None:
    write_tiny(tmp_path / "narrow.gguf")
    path = write_tiny_adapter(tmp_path / "poet.gguf")
    named = f"poet={path}" if is_path else "Poet"
    config = RegistryConfig(
        data_dir=tmp_path, models_dir=tmp_path, models={table: ModelSettings(adapters=(named,))}
    )
    ModelStore.in_directory(tmp_path).add_aliases("narrow", ["GPT-4o"])
    registry = ModelRegistry(config, FakeFactory().start, sources=[DirectorySource(tmp_path)])
    registry.scan()
    with pytest.raises(ModelProtected) as refused:
        await registry.remove("narrow:poet")
    assert refused.value.message == (
        f"'narrow:poet' is named by adapters under [models.{table}] in nibble.toml: take '{named}' out there, and"
        " reload"
    )
    assert path.exists()


async def test_a_file_that_is_set_at_the_start_stays_whatever_else_it_is_called(tmp_path: Path) -> None:
    write_tiny(tmp_path / "narrow.gguf")
    path = write_tiny_adapter(tmp_path / "poet.gguf")
    adapter = read_model_adapter(f"narrow:bard={path}")
    config = RegistryConfig(data_dir=tmp_path, models_dir=tmp_path, adapters=(adapter,))
    registry = ModelRegistry(config, FakeFactory().start, sources=[DirectorySource(tmp_path)])
    registry.scan()
    for name in ("narrow:bard", "narrow:poet"):
        with pytest.raises(ModelProtected, match="'narrow:bard' is named by the setting adapters"):
            await registry.remove(name)
    assert path.exists()
