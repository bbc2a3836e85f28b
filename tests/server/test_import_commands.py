"""``nibble import`` and ``nibble add``, as a person meets them, with the real worker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fixtures.tiny_gguf import write_tiny
from tests.model_registry.caches import layouts
from tests.server.nibble_process import run_nibble


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """The variables by which the programs' caches are found; all of them are empty."""
    return {
        "OLLAMA_MODELS": str(tmp_path / "ollama"),
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HOME": str(tmp_path / "user"),
    }


def test_what_others_have_fetched_is_listed_and_linked(tmp_path: Path, places: dict[str, str]) -> None:
    content = write_tiny(tmp_path / "tiny.bin").read_bytes()
    layouts.ollama(tmp_path / "ollama", "library/tiny/1b", content, layouts.TEMPLATE)
    layouts.huggingface(tmp_path / "hub", "owner/repo", {"mini-Q4_0.gguf": content})
    layouts.lmstudio(tmp_path / "user/.lmstudio/models", "publisher/repo", {"nano.gguf": content})
    found = json.loads(run_nibble(tmp_path, "import", "--found", "--json", **places).stdout)
    assert {(each["from"], each["name"]) for each in found} == {
        ("ollama", "tiny:1b"),
        ("huggingface", "owner/repo:mini-Q4_0"),
        ("lmstudio", "publisher/repo/nano"),
    }
    result = run_nibble(tmp_path, "import", "--from", "ollama", "tiny:1b", **places)
    assert result.stdout.startswith("tiny-1b: llama, "), result
    assert "Ollama's own settings are not used: its prompt template" in result.stderr
    added = run_nibble(tmp_path, "add", "--from", "huggingface", "mini", "--json", **places)
    assert json.loads(added.stdout)["source"] == "hf:owner/repo:mini-Q4_0"
    assert run_nibble(tmp_path, "import", "--from", "lmstudio", "nano", **places).returncode == 0
    ids = {model["id"] for model in json.loads(run_nibble(tmp_path, "list", "--json").stdout)}
    assert ids >= {"tiny-1b", "mini-q4_0", "nano"}
    listed = run_nibble(tmp_path, "import", "--from", "ollama", **places).stdout
    assert "nibble import --from PROGRAM NAME" in listed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "'nibble import --found' lists"),
        (("--from", "gpt4all"), "use ollama, lmstudio, huggingface"),
        (("--from", "ollama", "none"), "is in none of the caches"),
        (("--found", "x"), "leave out the name"),
        (("nowhere.gguf",), "is no model: name a .gguf file"),
    ],
)
def test_what_is_meant_otherwise_is_told(
    tmp_path: Path, places: dict[str, str], arguments: tuple[str, ...], words: str
) -> None:
    result = run_nibble(tmp_path, "import", *arguments, **places)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result
    assert words in result.stderr


def test_where_nothing_is_found_the_places_are_named(tmp_path: Path, places: dict[str, str]) -> None:
    result = run_nibble(tmp_path, "import", "--found", **places)
    assert result.returncode == 0
    assert places["OLLAMA_MODELS"] in result.stderr
