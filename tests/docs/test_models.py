"""The table of errors in docs/models.md has every error of the sources, and no other."""

from __future__ import annotations

import functools
import re

import pytest

from engine.errors import error_classes
from model_registry.catalog.catalog import catalog
from server.cli import app
from tests.deploy.files import ROOT
from tests.docs.messages import raised_texts, returned_texts

TEXT = (ROOT / "docs" / "models.md").read_text()
ERRORS = frozenset(
    {
        "PullError",
        "PullCancelled",
        "StoreError",
        "NameRefused",
        "LookupError",
        "ValueError",
        *(known.__name__ for known in error_classes().values()),
    }
)
LOADING_ERRORS = frozenset({"ModelLoadFailed", "ModelLoadTimeout", "InsufficientMemory"})
"""What the engine tells of a model. What it tells of a request is for the tables of the API."""
NOT_SHOWN = frozenset({ROOT / "model_registry" / "catalog" / "catalog.py"})
"""It refuses a catalogue that is packaged so, which its own tests see before anybody else does."""
REGISTRY = [path for path in ROOT.glob("model_registry/**/*.py") if path not in NOT_SHOWN]
JOBS = [
    ROOT / "engine" / f"{name}.py"
    for name in ("quantization", "quantization_type", "importance_matrix", "measurement")
]
"""What the registry has the engine do, and passes on as it is told."""
ENGINE = [
    *(path for path in ROOT.glob("engine/*.py") if path.name != "errors.py"),
    *ROOT.glob("engine/native/*.py"),
]
RETURNED = {
    "model_registry/sources/gguf_header.py": frozenset({"header_problem", "_problem"}),
    "model_registry/sources/directory.py": frozenset({"_find_one", "_find_adapter", "_missing_part"}),
    "model_registry/adapter_base.py": frozenset({"fault", "_own_fault", "_misfit"}),
    "model_registry/quantize/native_job.py": frozenset({"_damaged"}),
    "model_registry/setting_fault.py": frozenset({"setting_fault"}),
    "engine/load_fault.py": frozenset({"load_fault"}),
}


@functools.cache
def rows() -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", _table(), re.MULTILINE)


def _table() -> str:
    return TEXT[TEXT.index("| message |") : TEXT.index("## The conversation")]


@functools.cache
def messages() -> set[str]:
    raised = {text for path in (*REGISTRY, *JOBS) for text in raised_texts(path, ERRORS)}
    loading = {text for path in ENGINE for text in raised_texts(path, LOADING_ERRORS)}
    returned = (returned_texts(ROOT / name, functions) for name, functions in RETURNED.items())
    return raised.union(loading, *returned)


def _plain(text: str) -> str:
    """As it can stand between backticks."""
    return text.replace("`", "")


@pytest.mark.parametrize("message", sorted(messages()))
def test_every_error_has_a_row(message: str) -> None:
    assert any(_plain(message).startswith(row) for row in rows()), "add it to the table in docs/models.md"


@pytest.mark.parametrize("row", rows())
def test_every_row_is_an_error(row: str) -> None:
    assert any(_plain(message).startswith(row) for message in messages())


def test_a_row_is_there_once() -> None:
    assert len(rows()) == len(set(rows())) > 150


def test_every_row_has_its_mend() -> None:
    cells = [line.strip("|").split("|") for line in _table().strip().splitlines()]
    assert [row for row in cells if len(row) != 3 or not row[2].strip()] == []


def test_the_commands_are_those_of_the_program() -> None:
    table = TEXT[TEXT.index("| command |") : TEXT.index("## What can be pulled")]
    named = set(re.findall(r"`nibble (\w+)", table))
    known = {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }
    assert named <= known
    assert {"catalog", "pull", "import", "add", "verify", "prune", "doctor", "chat"} <= named


def test_the_examples_are_of_the_catalogue() -> None:
    assert "qwen2.5-1.5b-instruct" in catalog()
