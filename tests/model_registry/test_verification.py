"""What ``verify`` finds of a model, and what it names."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from engine.config import EngineConfig
from engine.errors import ModelLoadFailed
from model_registry.config import RegistryConfig
from model_registry.model import Model
from model_registry.registration import register
from model_registry.sources.bundled import BundledSource
from model_registry.sources.directory import DirectorySource
from model_registry.store.model_store import ModelStore
from model_registry.verification import Verified, check_digests, verify
from tests.fixtures.tiny_gguf import write_tiny
from tests.model_registry.fake_engine import FakeEngine


async def start(config: EngineConfig) -> FakeEngine:
    return FakeEngine(config)


async def fail(config: EngineConfig) -> FakeEngine:
    raise ModelLoadFailed("it is of another kind; take another")


@pytest.fixture
def config(tmp_path: Path) -> RegistryConfig:
    models = tmp_path / "models"
    models.mkdir()
    write_tiny(models / "tiny.gguf")
    return RegistryConfig(data_dir=tmp_path, models_dir=models)


def model(config: RegistryConfig) -> Model:
    assert config.models_dir is not None
    source = DirectorySource(config.models_dir)
    (found,) = source.find().models
    return Model(found, source, ModelStore.in_directory(config.data_dir).record(found.id))


def test_a_model_is_well_and_its_digest_known_once_it_was_imported(config: RegistryConfig) -> None:
    assert verify(model(config), config) == Verified(id="tiny", header="ok")
    path = config.data_dir / "models" / "tiny.gguf"
    register(path, config, start)
    seen: list[int] = []
    found = verify(model(config), config, start, lambda here, whole: seen.append(here))
    assert found == Verified(id="tiny", header="ok", digest="ok", load="ok")
    assert seen[-1] == path.stat().st_size


def test_bytes_that_changed_under_the_same_size_and_time_are_found(config: RegistryConfig) -> None:
    path = config.data_dir / "models" / "tiny.gguf"
    register(path, config, start)
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    found = verify(model(config), config, start)
    assert (found.digest, found.load) == ("failed", "unknown")
    assert "its disk may be failing; remove it" in found.problem
    os.utime(path)
    assert verify(model(config), config).digest == "unknown", "another file is no damaged one"


def test_the_bundled_model_s_mend_is_another(tmp_path: Path) -> None:
    """Its digest is known before it was ever read, and nobody imported it."""
    (bundled,) = BundledSource(tmp_path).find().models
    assert bundled.sha256 is not None
    path = Path(bundled.path)
    with pytest.raises(ModelLoadFailed, match="make setup"):
        check_digests([path], ["0" * 64], bundled.owned_by, lambda here: None)
    assert check_digests([path], [bundled.sha256], bundled.owned_by, lambda here: None) == "ok"


def test_a_short_file_and_one_that_does_not_load_are_told(config: RegistryConfig) -> None:
    found = verify(model(config), config, fail)
    assert (found.header, found.load) == ("ok", "failed")
    assert found.problem == "it is of another kind; take another"
    path = config.data_dir / "models" / "tiny.gguf"
    path.write_bytes(path.read_bytes()[:-2000])
    found = verify(model(config), config, start)
    assert (found.header, found.digest, found.load) == ("failed", "unknown", "unknown")
    assert "was cut short" in found.problem
    path.write_bytes(b"<html>")
    assert "is a web page" in verify(model(config), config).problem


def test_every_part_of_a_split_model_is_looked_at(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for number in (1, 2):
        write_tiny(models / f"big-0000{number}-of-00002.gguf")
    config = RegistryConfig(data_dir=tmp_path, models_dir=models)
    assert verify(model(config), config).is_well
    second = models / "big-00002-of-00002.gguf"
    second.write_bytes(second.read_bytes()[:-3000])
    found = verify(model(config), config)
    assert str(second) in found.problem


def test_a_file_whose_digest_its_source_knows_is_compared_with_that(config: RegistryConfig) -> None:
    bare = model(config)
    content = bare.found.path.read_bytes()
    for digest, outcome in ((hashlib.sha256(content).hexdigest(), "ok"), ("00" * 32, "failed")):
        known = Model(msgspec.structs.replace(bare.found, sha256=digest, owned_by="nibble"), bare.source)
        found = verify(known, config)
        assert found.digest == outcome
        assert ("make setup" in found.problem) is (outcome == "failed")


def test_what_it_tells_is_for_programs_too() -> None:
    assert msgspec.json.decode(msgspec.json.encode(Verified(id="a")), type=Verified) == Verified(id="a")
