"""What is booked for a load, the draft model's weights included."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from engine.adapter import Adapter
from engine.config import EngineConfig
from model_registry.adapted_model import AdaptedModel
from model_registry.admission import Admission
from model_registry.config import RegistryConfig
from model_registry.model import Model
from model_registry.model_adapter import ModelAdapter
from model_registry.sources.directory import DirectorySource
from model_registry.sources.found_model import FoundModel


def test_a_draft_model_takes_memory_beside_every_model(tmp_path: Path) -> None:
    path = tmp_path / "draft.gguf"
    path.write_bytes(bytes(50_000_000))
    found = FoundModel(id="a", path=tmp_path / "a.gguf", file_bytes=100_000_000, created=0, owned_by="test")
    model = Model(found, DirectorySource(tmp_path))
    engine = EngineConfig(model_id="", model_path="", kv_budget_bytes=1)
    config = RegistryConfig(data_dir=tmp_path, engine=engine)
    admission = Admission(config, available=lambda: 200_000_000)
    assert admission.missing_bytes(model, [], is_alone=False) == 0
    config = replace(config, engine=replace(engine, draft_model_path=str(path)))
    admission = Admission(config, available=lambda: 200_000_000)
    assert admission.missing_bytes(model, [], is_alone=False) == 17_108_865
    assert "about 217 MB" in admission.refusal(model, []).message
    assert admission.missing_bytes(model, [], is_alone=True) == 0


def test_adapters_take_memory_beside_their_model(tmp_path: Path) -> None:
    found = FoundModel(id="a", path=tmp_path / "a.gguf", file_bytes=100_000_000, created=0, owned_by="test")
    model = Model(found, DirectorySource(tmp_path))
    engine = EngineConfig(model_id="", model_path="", kv_budget_bytes=1)
    admission = Admission(RegistryConfig(data_dir=tmp_path, engine=engine), available=lambda: 200_000_000)
    before = admission.needed_bytes(model)
    model.adapter_bytes = {"poet": 70_000_000}
    assert admission.needed_bytes(model) == before + 70_000_000
    assert admission.missing_bytes(model, [], is_alone=False) == before + 70_000_000 - 200_000_000
    assert admission.missing_bytes(model, [], is_alone=True) <= 0, "the weights alone may be read again"
    model.adapter_bytes = {"poet": 170_000_000}
    assert admission.missing_bytes(model, [], is_alone=True) > 0, "an adapter is not mapped"
    file = tmp_path / "poet.gguf"
    file.write_bytes(bytes(1000))
    adapted = AdaptedModel(model, ModelAdapter("a", Adapter("poet", str(file))))
    tight = Admission(RegistryConfig(data_dir=tmp_path, engine=engine), available=lambda: 900)
    assert tight.missing_beside(adapted, [model]) == 100
    assert (
        "the adapter 'a:poet' needs about 0 MB and 0 MB are free" in tight.refusal_beside(adapted, []).message
    )
    with tight.book(adapted):
        assert tight.missing_beside(adapted, [model]) == 1100


def test_the_draft_model_is_as_large_as_its_file(tmp_path: Path) -> None:
    config = RegistryConfig(data_dir=tmp_path)
    assert config.draft_bytes == 0
    path = tmp_path / "draft.gguf"
    config = replace(config, engine=replace(config.engine, draft_model_path=str(path)))
    assert config.draft_bytes == 0
    path.write_bytes(bytes(1234))
    assert config.draft_bytes == 1234
