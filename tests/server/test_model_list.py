"""The table of models: what stands in it, and that it fits a terminal."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from model_registry.model import Model
from model_registry.sources.directory import DirectorySource
from model_registry.sources.found_model import FoundModel
from model_registry.sources.header_facts import HeaderFacts
from model_registry.store.model_record import FileRecord, ModelRecord
from server.model_list import model_list

FOUND = FoundModel(
    id="qwen2.5-coder-32b-instruct-q4_k_m",
    path=Path("qwen2.5-coder-32b-instruct-q4_k_m.gguf"),
    file_bytes=19_851_336_000,
    created=0,
    owned_by="local",
    header=HeaderFacts(quantisation="Q4_K_M", parameters=32_763_876_352),
)


def model(found: FoundModel = FOUND, record: ModelRecord | None = None) -> Model:
    return Model(found, DirectorySource(Path()), record)


def test_it_fits_80_columns() -> None:
    broken = msgspec.structs.replace(FOUND, id="b", header=None, failure="b.gguf is empty: download it again")
    record = ModelRecord(
        id=FOUND.id,
        aliases=("gpt-4o", "o1"),
        file=FileRecord(path="", file_bytes=FOUND.file_bytes, mtime_ns=0, parent="qwen"),
    )
    lines = model_list([model(record=record), model(broken)], [])
    assert lines == [
        "ID                                 TYPE    PARAMETERS       SIZE  NOTES",
        "qwen2.5-coder-32b-instruct-q4_k_m  Q4_K_M         33B  19,851 MB  also gpt-4o, o1; made of qwen",
        "b                                  -                -  19,851 MB  b.gguf is empty: download it again",
    ]
    assert len(model_list([model()], [])[1]) <= 80
    assert model_list([], []) == []


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        (0, "-"),
        (1, "1"),
        (37_280, "37K"),
        (134_515_008, "135M"),
        (999_000_000, "999M"),
        (1_235_814_432, "1.2B"),
        (9_960_000_000, "10B"),
        (70_553_706_496, "71B"),
        (1_040_000_000_000, "1.0T"),
    ],
)
def test_parameters_are_told_as_the_names_of_models_tell_them(parameters: int, shown: str) -> None:
    found = msgspec.structs.replace(FOUND, header=HeaderFacts(parameters=parameters))
    assert model_list([model(found)], [])[1].split()[1:3] == ["-", shown]
