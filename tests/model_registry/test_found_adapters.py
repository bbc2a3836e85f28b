"""Adapters that come, go and change while a server runs: listed at once, loaded beside their model, and alone in it
when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.errors import InvalidRequest, ModelLoadFailed, ModelNotFound, ModelProtected, WorkerDied
from model_registry.config import RegistryConfig
from model_registry.model_settings import ModelSettings
from model_registry.registry import ModelRegistry
from model_registry.sources.directory import DirectorySource
from model_registry.store.model_record import FileRecord
from model_registry.store.model_store import ModelStore
from tests.fixtures.tiny_gguf import Tiny, TinyAdapter, write_tiny, write_tiny_adapter
from tests.model_registry.fake_engine import FakeEngine, FakeFactory
from tests.model_registry.test_twins import twin_of


@dataclass
class House:
    root: Path
    registry: ModelRegistry
    factory: FakeFactory
    store: ModelStore
    now_s: float = 0.0

    @property
    def engine(self) -> FakeEngine:
        return self.factory.engines[-1]

    def put(self, name: str, made: TinyAdapter | None = None) -> Path:
        return write_tiny_adapter(self.root / f"{name}.gguf", made)

    async def looks(self) -> None:
        """As many as it takes to believe what is new; and what they have begun is done."""
        for _ in range(2):
            await self.registry.look()
            await self.registry.preloaded()

    def ids(self) -> list[str]:
        return [card.id for card in self.registry.cards()]

    def state(self, model_id: str) -> str:
        return self.registry.card(model_id).state


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    write_tiny(tmp_path / "narrow.gguf")
    write_tiny(tmp_path / "wide.gguf", Tiny(width=64))
    factory = FakeFactory(auto=True)
    config = RegistryConfig(data_dir=tmp_path, models_dir=tmp_path)
    store = ModelStore.in_directory(tmp_path)
    registry = ModelRegistry(
        config,
        factory.start,
        sources=[DirectorySource(tmp_path)],
        store=store,
        clock=lambda: made.now_s,
    )
    made = House(tmp_path, registry, factory, store)
    yield made
    await registry.stop()


async def test_a_copied_file_appears_and_is_loaded_beside_its_model_without_a_reload(house: House) -> None:
    await house.registry.start()
    await house.registry.preloaded()
    house.put("poet")
    await house.registry.look()
    assert house.ids() == ["narrow", "wide"], "it may be half copied"
    await house.looks()
    assert house.ids() == ["narrow", "narrow:poet", "wide"]
    assert (house.registry.card("narrow:poet").parent, house.state("narrow:poet")) == ("narrow", "ready")
    assert list(house.engine.adapters) == ["poet"]
    assert len(house.factory.loads) == 1
    async with house.registry.lease("narrow:poet") as lease:
        assert lease.card.adapter == "poet"
    assert len(house.engine.adapter_loads) == 1


async def test_one_that_is_there_at_the_start_is_loaded_when_its_model_is(house: House) -> None:
    house.put("poet", TinyAdapter(base=Tiny(width=64)))
    house.registry.scan()
    assert house.ids() == ["narrow", "wide", "wide:poet"]
    async with house.registry.lease("wide:poet") as lease:
        assert (lease.card.id, [*house.engine.adapters]) == ("wide:poet", ["poet"])
    assert house.factory.loads[0].config.adapters == (), "its failure is not that of the model"


async def test_requests_wait_for_one_load_which_goes_on_if_they_leave(house: House) -> None:
    await house.registry.start()
    await house.registry.preloaded()
    house.engine.adapter_gate.clear()
    house.put("poet")
    await house.registry.look()
    await house.registry.look()

    async def ask() -> str:
        async with house.registry.lease("narrow:poet") as lease:
            return lease.card.id

    leaving, staying = asyncio.create_task(ask()), asyncio.create_task(ask())
    await house.engine.adapter_loading.wait()
    leaving.cancel()
    await asyncio.wait({leaving})
    house.engine.adapter_gate.set()
    assert await staying == "narrow:poet"
    assert len(house.engine.adapter_loads) == 1


async def test_a_failure_is_that_of_the_adapter_alone_and_is_tried_again_after_a_pause(house: House) -> None:
    await house.registry.start()
    await house.registry.preloaded()
    house.engine.adapter_error = ModelLoadFailed("it computes no numbers")
    house.put("poet")
    await house.looks()
    assert (house.state("narrow:poet"), house.state("narrow")) == ("failed", "ready")
    assert house.registry.card("narrow:poet").failure == "it computes no numbers"
    for _ in range(2):
        with pytest.raises(ModelLoadFailed, match="no numbers"):
            async with house.registry.lease("narrow:poet"):
                raise AssertionError
    assert len(house.engine.adapter_loads) == 1, "a fresh failure is the answer"
    async with house.registry.lease("narrow") as lease:
        assert lease.card.state == "ready"
    house.engine.adapter_error, house.now_s = None, 100.0
    async with house.registry.lease("narrow:poet") as lease:
        assert lease.card.state == "ready"


async def test_a_file_that_ends_workers_is_not_tried_for_ever(house: House) -> None:
    await house.registry.start()
    await house.registry.preloaded()
    house.engine.adapter_error = WorkerDied("it was ended by SIGSEGV")
    house.put("poet")
    await house.looks()
    for turn in range(5):
        house.now_s += 100.0
        house.store.describe("wide", notes=f"something that makes a look {turn}")
        await house.looks()
        with pytest.raises(WorkerDied):
            async with house.registry.lease("narrow:poet"):
                raise AssertionError
    assert len(house.engine.adapter_loads) == 2
    house.put("poet", TinyAdapter(seed=7))
    house.engine.adapter_error = None
    await house.looks()
    assert house.state("narrow:poet") == "ready"


async def test_a_file_that_goes_is_dropped_when_nobody_holds_it(house: House) -> None:
    path = house.put("poet")
    await house.registry.start()
    async with house.registry.lease("narrow:poet"):
        path.unlink()
        await house.looks()
        assert house.ids() == ["narrow", "wide"]
        assert "poet" in house.engine.adapters, "who holds it finishes with it"
    await house.looks()
    assert not house.engine.adapters
    with pytest.raises(ModelNotFound):
        house.registry.card("narrow:poet")


async def test_another_file_of_the_name_is_another_adapter(house: House) -> None:
    house.put("poet")
    await house.registry.start()
    async with house.registry.lease("narrow:poet") as lease:
        first = lease.card.fingerprint
    house.put("poet", TinyAdapter(seed=7))
    await house.looks()
    assert len(house.engine.adapter_loads) == 2
    assert house.engine.adapters["poet"] == house.engine.adapter_loads[1]
    assert house.registry.card("narrow:poet").fingerprint != first


async def test_settings_name_adapters_by_file_and_by_path(house: House, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    far = write_tiny_adapter(tmp_path / "far" / "whatever.gguf")
    write_tiny(tmp_path / "twin.gguf")
    house.put("poet")
    await house.registry.start()
    assert "narrow:poet" not in house.ids(), "two models have its shapes"
    assert any("--for MODEL" in problem for problem in house.registry.problems)
    house.store.set_settings("twin", ModelSettings(adapters=("poet", f"clerk={far}")))
    await house.looks()
    assert house.ids() == ["narrow", "twin", "twin:clerk", "twin:poet", "wide"]
    house.store.set_settings("twin", ModelSettings(adapters=("painter", "a b", f"gone={tmp_path / 'gone'}")))
    await house.looks()
    told = "\n".join(house.registry.problems)
    assert "names 'painter'" in told
    assert "'a b', which is neither" in told
    assert "gone of 'twin' is not served" in told


async def test_one_that_settings_give_to_the_wrong_model_is_listed_as_failed(house: House) -> None:
    house.put("poet")
    house.store.set_settings("wide", ModelSettings(adapters=("poet",)))
    await house.registry.start()
    assert (house.state("wide:poet"), house.ids()) == ("failed", ["narrow", "wide", "wide:poet"])
    with pytest.raises(ModelLoadFailed, match="another model than 'wide'"):
        async with house.registry.lease("wide:poet"):
            raise AssertionError
    await house.looks()
    assert house.state("wide:poet") == "failed"


async def test_a_lease_brings_the_adapters_that_a_request_names(house: House) -> None:
    house.put("poet")
    house.put("clerk", TinyAdapter(seed=2))
    await house.registry.start()
    async with house.registry.lease("narrow:poet", adapters=("clerk", "poet")) as lease:
        assert sorted(house.engine.adapters) == ["clerk", "poet"]
        assert lease.card.id == "narrow:poet"
    with pytest.raises(InvalidRequest, match="no adapter 'painter'"):
        async with house.registry.lease("narrow", adapters=("painter",)):
            raise AssertionError


async def test_an_adapter_is_deleted_by_its_id_and_by_no_alias(house: House) -> None:
    path = house.put("poet")
    await house.registry.start()
    house.store.add_aliases("narrow:poet", ["bard"])
    await house.registry.look()
    assert house.registry.card("bard").id == "narrow:poet"
    with pytest.raises(InvalidRequest, match="another name"):
        await house.registry.remove("bard")
    await house.registry.remove("narrow:poet")
    assert not path.exists()
    assert house.ids() == ["narrow", "wide"]
    assert house.store.records() == {}, "and its aliases go with it"


async def test_settings_name_one_that_was_deleted_no_more(house: House) -> None:
    write_tiny(house.root / "twin.gguf")
    house.put("poet")
    house.put("clerk", TinyAdapter(seed=2))
    house.store.set_settings("narrow", ModelSettings(context=64, adapters=("Poet", "clerk")))
    house.store.set_settings("twin", ModelSettings(adapters=("poet",)))
    house.store.add_aliases("twin:poet", ["bard"])
    await house.registry.start()
    assert [each for each in house.ids() if ":" in each] == ["narrow:clerk", "narrow:poet", "twin:poet"]
    await house.registry.remove("narrow:poet")
    await house.looks()
    assert [each for each in house.ids() if ":" in each] == ["narrow:clerk"]
    assert house.registry.problems == ()
    assert house.store.record("narrow").settings == ModelSettings(context=64, adapters=("clerk",))
    assert house.store.record("twin").settings == ModelSettings(), "its file was that of both"
    assert "twin:poet" not in house.store.records()


async def test_one_that_is_set_at_the_start_is_not_ours_to_delete(tmp_path: Path) -> None:
    from model_registry.model_adapter import read_model_adapter

    write_tiny(tmp_path / "narrow.gguf")
    (tmp_path / "far").mkdir()
    far = write_tiny_adapter(tmp_path / "far" / "poet.gguf")
    config = RegistryConfig(
        data_dir=tmp_path, models_dir=tmp_path, adapters=(read_model_adapter(f"narrow:poet={far}"),)
    )
    registry = ModelRegistry(config, FakeFactory().start, sources=[DirectorySource(tmp_path)])
    registry.scan()
    with pytest.raises(ModelProtected, match="setting adapters"):
        await registry.remove("narrow:poet")
    assert far.exists()


async def test_a_model_that_was_made_of_another_leaves_the_adapters_to_it_and_answers_with_them_as_its_twin(
    house: House,
) -> None:
    write_tiny(house.root / "narrow-q8_0.gguf")
    house.put("poet")
    made = FileRecord(path="", file_bytes=1, mtime_ns=1, parent="narrow")
    house.store.set_file("narrow-q8_0", made)
    await house.registry.start()
    assert [each for each in house.ids() if ":" in each] == ["narrow:poet"]
    house.store.set_twin("narrow", twin_of("narrow-q8_0"))
    await house.looks()
    async with house.registry.lease("narrow:poet") as lease:
        assert (lease.card.id, lease.card.parent) == ("narrow:poet", "narrow")
        assert house.engine.config.model_id == "narrow-q8_0"
        assert list(house.engine.adapters) == ["poet"]


async def test_trying_out_a_model_that_was_made_of_another_leaves_the_adapters_to_that(house: House) -> None:
    path = write_tiny(house.root / "narrow-q8_0.gguf")
    house.put("poet")
    stat = path.stat()
    made = FileRecord(
        path=str(path),
        file_bytes=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        source="hf:a/narrow",
        licence="apache-2.0",
        parent="narrow",
    )
    house.store.set_file("narrow-q8_0", made)
    await house.registry.start()
    record = await house.registry.try_out("narrow-q8_0")
    assert (record.source, record.licence, record.parent) == ("hf:a/narrow", "apache-2.0", "narrow")
    assert house.store.record("narrow-q8_0").file == record
    await house.looks()
    assert [each for each in house.ids() if ":" in each] == ["narrow:poet"]
    assert house.registry.problems == ()


async def test_one_that_is_for_no_model_is_told_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    await house.registry.start()
    house.put("huge", TinyAdapter(base=Tiny(width=128), base_name="Huge 70B"))
    for turn in range(3):
        await house.looks()
        house.store.describe("wide", notes=f"something that makes a look {turn}")
    assert house.ids() == ["narrow", "wide"]
    told = [record for record in caplog.records if "made for Huge 70B" in record.getMessage()]
    assert len(told) == 1
