"""Models that are linked: nothing of somebody else's is written, and what fails is taken back."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from engine.config import EngineConfig
from engine.errors import ModelLoadFailed, ModelProtected
from model_registry.caches import ollama
from model_registry.config import RegistryConfig
from model_registry.model_link import import_cached, import_file, link_model
from model_registry.registration import Wanted, register
from model_registry.store.model_store import ModelStore
from tests.fixtures.tiny_gguf import Tiny, write_tiny
from tests.model_registry.caches import layouts
from tests.model_registry.fake_engine import FakeEngine


async def start(config: EngineConfig) -> FakeEngine:
    return FakeEngine(config)


async def fail(config: EngineConfig) -> FakeEngine:
    raise ModelLoadFailed("it is damaged; fetch it again")


@pytest.fixture
def config(tmp_path: Path) -> RegistryConfig:
    return RegistryConfig(data_dir=tmp_path / "home")


def test_a_model_of_ollamas_is_linked_under_a_name_of_its_own(tmp_path: Path, config: RegistryConfig) -> None:
    content = write_tiny(tmp_path / "tiny.bin").read_bytes()
    blob = layouts.ollama(tmp_path / "cache", "library/tiny/1b", content)
    (model,) = ollama.models(tmp_path / "cache")
    registered = import_cached(model, config, start)
    assert registered.id == "tiny-1b"
    assert registered.file.source == "ollama:tiny:1b"
    assert (tmp_path / "home/models/tiny-1b.gguf").readlink() == blob
    assert import_cached(model, config, start) == registered, "once more changes nothing"


def test_what_does_not_load_is_linked_no_more(tmp_path: Path, config: RegistryConfig) -> None:
    path = write_tiny(tmp_path / "tiny.gguf")
    with pytest.raises(ModelLoadFailed):
        import_file(path, config, fail)
    assert path.exists()
    assert not list((tmp_path / "home/models").iterdir())
    assert ModelStore.in_directory(config.data_dir).records() == {}


def test_a_link_that_was_there_stays_when_it_does_not_load(tmp_path: Path, config: RegistryConfig) -> None:
    path = write_tiny(tmp_path / "tiny.gguf")
    import_file(path, config, start)
    with pytest.raises(ModelLoadFailed):
        import_file(path, config, fail)
    assert (tmp_path / "home/models/tiny.gguf").exists()


def test_another_file_of_that_name_stays(tmp_path: Path, config: RegistryConfig) -> None:
    path = write_tiny(tmp_path / "tiny.gguf")
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True)
    (models / "tiny.gguf").write_bytes(b"mine")
    with pytest.raises(ModelProtected, match="is another file: remove it, or rename it"):
        import_file(path, config, start)
    assert (models / "tiny.gguf").read_bytes() == b"mine"


def test_an_id_that_another_file_has_is_told_and_not_linked(tmp_path: Path, config: RegistryConfig) -> None:
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True)
    write_tiny(models / "Tiny.gguf")
    with pytest.raises(ModelProtected, match="another model has its id"):
        import_file(write_tiny(tmp_path / "tiny.gguf"), config, start)
    assert [path.name for path in models.iterdir()] == ["Tiny.gguf"]


def test_a_file_in_the_directory_itself_is_tried_out_where_it_is(
    tmp_path: Path, config: RegistryConfig
) -> None:
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True)
    assert import_file(write_tiny(models / "tiny.gguf"), config, start).id == "tiny"
    assert not (models / "tiny.gguf").is_symlink()


def test_what_is_known_of_a_file_outlives_its_being_imported_again(
    tmp_path: Path, config: RegistryConfig
) -> None:
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True)
    path = write_tiny(models / "tiny-q8_0.gguf")
    store = ModelStore.in_directory(config.data_dir)
    first = import_file(path, config, start).file
    told = msgspec.structs.replace(first, source="hf:a/tiny", licence="apache-2.0", parent="tiny")
    store.set_file("tiny-q8_0", told)
    assert import_file(path, config, start).file == told
    os.utime(path, ns=(1, 1))
    import_file(path, config, start)
    again = store.record("tiny-q8_0").file
    assert again == msgspec.structs.replace(told, mtime_ns=1), "its digest tells that it is the same"
    write_tiny(path, Tiny(width=64))
    other = import_file(path, config, start).file
    assert (other.source, other.licence, other.parent) == ("", "", ""), "it is another file"


def test_where_it_comes_from_now_is_kept_and_its_parent_too(tmp_path: Path, config: RegistryConfig) -> None:
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True)
    path = write_tiny(models / "tiny.gguf")
    first = register(path, config, start, Wanted(source="hf:a/tiny", licence="mit")).file
    ModelStore.in_directory(config.data_dir).set_file("tiny", msgspec.structs.replace(first, parent="big"))
    again = register(path, config, start, Wanted(source="hf:b/tiny")).file
    assert (again.source, again.licence, again.parent) == ("hf:b/tiny", "mit", "big")


def test_a_way_around_to_the_directory_links_nothing_to_itself(
    tmp_path: Path, config: RegistryConfig
) -> None:
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True)
    write_tiny(models / "tiny.gguf")
    (tmp_path / "around").symlink_to(models)
    assert import_file(tmp_path / "around" / "tiny.gguf", config, start).id == "tiny"
    assert not (models / "tiny.gguf").is_symlink()


def test_a_cache_that_is_named_from_here_is_linked_from_anywhere(
    tmp_path: Path, config: RegistryConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write_tiny(tmp_path / "tiny.bin").read_bytes()
    layouts.ollama(tmp_path / "cache", "library/tiny/1b", content)
    monkeypatch.chdir(tmp_path)
    (model,) = ollama.models(Path("cache"))
    import_cached(model, config, start)
    assert (tmp_path / "home/models/tiny-1b.gguf").readlink().is_absolute()


@pytest.mark.parametrize("name", ["none.gguf", "notes.txt", ""])
def test_what_is_no_model(tmp_path: Path, config: RegistryConfig, name: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelLoadFailed, match=r"name a .gguf file"):
        import_file(tmp_path / name, config, start)


def test_links_that_were_made_go_when_a_later_one_cannot_be(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "a-00001-of-00002.gguf").write_bytes(b"mine")
    links = [(f"a-0000{number}-of-00002.gguf", tmp_path / str(number)) for number in (1, 2)]
    with pytest.raises(ModelProtected):
        link_model(models, links)
    assert [path.name for path in models.iterdir()] == ["a-00001-of-00002.gguf"]
