"""Twins under a running registry: they serve under the name of another, and leave it in peace when they go."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from engine.adapter import Adapter
from engine.config import EngineConfig
from engine.errors import ModelNotFound
from model_registry.admission import Admission
from model_registry.config import RegistryConfig
from model_registry.model_adapter import ModelAdapter
from model_registry.model_settings import ModelSettings
from model_registry.registry import ModelRegistry
from model_registry.sampling_defaults import SamplingDefaults
from model_registry.sources.directory import DirectorySource
from model_registry.store.model_store import ModelStore
from model_registry.store.twin_record import Measurement, TwinRecord
from tests.model_registry.fake_engine import FakeFactory, write_gguf

_MEASUREMENT = Measurement(
    quantisation="Q4_0", file_bytes=1, memory_bytes=1, prefill=1, decode_1=1, decode_8=1, perplexity=10
)


def twin_of(model_id: str) -> TwinRecord:
    return TwinRecord(
        id=model_id,
        original=_MEASUREMENT,
        twin=_MEASUREMENT,
        tokens=300,
        text_sha256="ab" * 32,
        build="0.3.36",
        threads=2,
        measured_at=1,
    )


class House:
    """A registry over ``alpha`` and ``alpha-q4_0``, which serves for it, and ``beta``."""

    def __init__(self, root: Path, **config: object) -> None:
        self.models = root / "models"
        self.models.mkdir()
        for name in ("alpha", "alpha-q4_0", "beta"):
            write_gguf(self.models / f"{name}.gguf")
        self.store = ModelStore.in_directory(root)
        self.store.set_twin("alpha", twin_of("alpha-q4_0"))
        self.factory = FakeFactory(auto=True)
        whole = msgspec.structs.replace(
            RegistryConfig(
                data_dir=root,
                models_dir=self.models,
                engine=EngineConfig(model_id="", model_path="", context=64),
            ),
            **config,
        )
        self.registry = ModelRegistry(
            whole,
            self.factory.start,
            sources=[DirectorySource(self.models)],
            store=self.store,
            admission=Admission(whole, available=lambda: None),
        )

    async def served_by(self, name: str) -> tuple[str, str]:
        """The id that the lease is under, and the file that answers."""
        async with self.registry.lease(name) as lease:
            engine = lease.engine
            return lease.card.id, Path(engine.config.model_path).name  # type: ignore[attr-defined]

    async def look(self) -> None:
        await self.registry.look()
        await self.registry.look()


async def test_requests_for_a_model_reach_its_twin_under_the_models_name(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.store.add_aliases("alpha", ["gpt-4o"])
    await house.registry.start()
    assert house.registry.preload == ("alpha-q4_0",), (
        "the first to serve is loaded, and not the one it serves for"
    )
    for name, told in (("alpha", "alpha"), ("gpt-4o", "alpha"), ("alpha-q4_0", "alpha-q4_0")):
        assert await house.served_by(name) == (told, "alpha-q4_0.gguf")
    assert await house.served_by("beta") == ("beta", "beta.gguf")
    assert [card.id for card in house.registry.cards()] == ["alpha", "alpha-q4_0", "beta"]
    assert house.registry.card("alpha").path.endswith("alpha-q4_0.gguf")
    assert len(house.factory.engines) == 2, "one twin, and beta"
    await house.registry.stop()


async def test_a_twin_is_served_as_its_original_would_be(tmp_path: Path) -> None:
    adapter = ModelAdapter("alpha", Adapter("pirate", str(tmp_path / "a.gguf")))
    house = House(
        tmp_path,
        models={"alpha": ModelSettings(context=128, threads=3, temperature=0.3)},
        adapters=(adapter,),
    )
    house.store.set_settings("alpha", ModelSettings(parallel=5, temperature=1, top_k=20))
    house.store.set_settings("alpha-q4_0", ModelSettings(threads=1, min_p=0.1))
    await house.registry.start()
    async with house.registry.lease("alpha:pirate") as lease:
        config = lease.engine.config  # type: ignore[attr-defined]
        assert (lease.card.parent, lease.card.adapter) == ("alpha", "pirate")
    assert (config.context, config.parallel, config.threads) == (128, 5, 1), "its own settings say more"
    assert [each.name for each in config.adapters] == ["pirate"]
    for name in ("alpha", "alpha:pirate", "alpha-q4_0"):
        card = house.registry.card(name)
        assert (card.id, card.sampling) == (name, SamplingDefaults(temperature=0.3, top_k=20, min_p=0.1))
    assert not house.registry.detail("alpha-q4_0").is_outdated
    house.store.set_settings("alpha-q4_0", ModelSettings(threads=1, min_p=0.2))
    await house.look()
    assert house.registry.card("alpha").sampling.min_p == 0.2, "at once"
    assert not house.registry.detail("alpha-q4_0").is_outdated, "nothing is to be loaded for that"
    await house.registry.stop()


async def test_a_twin_comes_and_goes_while_the_registry_runs(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.store.set_twin("alpha", None)
    await house.registry.start()
    assert await house.served_by("alpha") == ("alpha", "alpha.gguf")
    house.store.set_twin("alpha", twin_of("alpha-q4_0"))
    await house.look()
    assert await house.served_by("alpha") == ("alpha", "alpha-q4_0.gguf")
    (house.models / "alpha-q4_0.gguf").unlink()
    await house.look()
    assert await house.served_by("alpha") == ("alpha", "alpha.gguf"), "its own file again"
    assert any("'nibble tune alpha --revert' forgets" in problem for problem in house.registry.problems)
    with pytest.raises(ModelNotFound):
        house.registry.card("alpha-q4_0")
    await house.registry.stop()


async def test_a_deleted_original_takes_its_name_along_and_leaves_the_twin(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.registry.start()
    await house.registry.remove("alpha")
    await house.look()
    assert [path.name for path in sorted(house.models.iterdir())] == ["alpha-q4_0.gguf", "beta.gguf"]
    assert await house.served_by("alpha-q4_0") == ("alpha-q4_0", "alpha-q4_0.gguf")
    with pytest.raises(ModelNotFound):
        house.registry.card("alpha")
    await house.registry.stop()


async def test_two_that_serve_for_each_other_do_so_without_end(tmp_path: Path) -> None:
    house = House(tmp_path, models={"beta": ModelSettings(threads=7)})
    house.store.set_twin("alpha", twin_of("beta"))
    house.store.set_twin("beta", twin_of("alpha"))
    await house.registry.start()
    assert await house.served_by("alpha") == ("alpha", "beta.gguf")
    assert await house.served_by("beta") == ("beta", "alpha.gguf")
    await asyncio.wait_for(house.registry.stop(), 60)


async def test_the_file_that_is_named_is_tried_out_and_not_its_twin(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.registry.start()
    await house.registry.preloaded()
    record = await house.registry.try_out("alpha")
    assert Path(record.path).name == "alpha.gguf"
    assert house.factory.engines[-1].config.model_path.endswith("/alpha.gguf")
    assert house.store.record("alpha").file == record
    assert house.store.record("alpha-q4_0").file is None, "nobody asked about that"
    await house.registry.stop()
