"""The table of errors in docs/models.md has every error of the sources, and no other."""

from __future__ import annotations

import functools
import re

import pytest

from model_registry.catalog.catalog import catalog
from server.cli import app
from tests.deploy.files import ROOT
from tests.docs.messages import raised_texts, returned_texts

TEXT = (ROOT / "docs" / "models.md").read_text()
ERRORS = frozenset(
    {
        "PullError",
        "PullCancelled",
        "ModelLoadFailed",
        "ModelLoadTimeout",
        "InsufficientMemory",
        "ModelProtected",
        "LookupError",
    }
)
SOURCES = [
    *ROOT.glob("model_registry/pull/*.py"),
    *ROOT.glob("model_registry/caches/*.py"),
    *ROOT.glob("model_registry/jobs/*.py"),
    *ROOT.glob("model_registry/sources/*.py"),
    *(
        ROOT / "model_registry" / name
        for name in (
            "registration.py",
            "model_link.py",
            "verification.py",
            "admission.py",
            "shelf.py",
            "adapter_files.py",
            "adapter_import.py",
            "registry.py",
            "removal.py",
            "residence.py",
            "drain.py",
        )
    ),
    *(path for path in ROOT.glob("engine/*.py") if path.name != "errors.py"),
    *ROOT.glob("engine/native/*.py"),
]
RETURNED = {
    "model_registry/sources/gguf_header.py": frozenset({"header_problem", "_problem"}),
    "model_registry/sources/directory.py": frozenset({"_find_one", "_find_adapter", "_missing_part"}),
    "model_registry/adapter_base.py": frozenset({"fault", "_own_fault", "_misfit"}),
    "engine/load_fault.py": frozenset({"load_fault"}),
}


@functools.cache
def rows() -> list[str]:
    table = TEXT[TEXT.index("| message |") : TEXT.index("## The conversation")]
    return re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)


@functools.cache
def messages() -> set[str]:
    found = {text for path in SOURCES for text in raised_texts(path, ERRORS)}
    return found | {
        text for name, functions in RETURNED.items() for text in returned_texts(ROOT / name, functions)
    }


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
    assert len(rows()) == len(set(rows())) > 80


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
