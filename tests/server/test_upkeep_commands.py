"""``nibble verify`` and ``nibble prune``, as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_registry.store.model_store import ModelStore
from tests.fixtures.tiny_gguf import Tiny, write_tiny, write_tiny_adapter
from tests.server.nibble_process import run_nibble


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    write_tiny(tmp_path / "models" / "tiny.gguf")
    return tmp_path


def test_the_exit_status_tells_whether_all_is_well(home: Path) -> None:
    result = run_nibble(home, "verify", "tiny")
    assert (result.returncode, result.stdout) == (0, "tiny: header ok, digest unknown\n")
    assert run_nibble(home, "import", "models/tiny.gguf").returncode == 0
    result = run_nibble(home, "verify", "tiny", "--load")
    assert (result.returncode, result.stdout) == (0, "tiny: header ok, digest ok, load ok\n"), result
    cut = home / "models" / "cut.gguf"
    cut.write_bytes((home / "models" / "tiny.gguf").read_bytes()[:-2000])
    result = run_nibble(home, "verify", "--json")
    assert result.returncode == 1
    told = {each["id"]: each for each in json.loads(result.stdout)}
    assert (told["cut"]["header"], told["tiny"]["header"]) == ("failed", "ok")
    assert "download it again" in told["cut"]["problem"]
    result = run_nibble(home, "verify", "cut")
    assert (result.returncode, "was cut short" in result.stderr) == (1, True)
    assert run_nibble(home, "verify", "tyni").returncode == 1


def test_prune_asks_and_only_then_removes(home: Path) -> None:
    part = home / "models" / ".other.gguf.part"
    part.write_bytes(bytes(2_000_000))
    ModelStore.in_directory(home).add_aliases("gone", ["old-name"])
    dry = run_nibble(home, "prune", "--dry-run")
    assert dry.returncode == 0
    assert "partial download" in dry.stdout
    assert "its aliases would be lost" in dry.stdout
    assert run_nibble(home, "prune").returncode == 1, "nobody said yes"
    assert part.exists()
    result = run_nibble(home, "prune", "--yes", "--json")
    removed = json.loads(result.stdout)
    assert {each["kind"] for each in removed} == {"partial download", "record"}
    assert all(each["removed"] for each in removed)
    assert not part.exists()
    assert run_nibble(home, "prune").stdout == "there is nothing to remove\n"
    assert (home / "models" / "tiny.gguf").exists()


def test_prune_leaves_what_is_known_of_adapters_that_are_here(home: Path) -> None:
    models = home / "models"
    poet = write_tiny_adapter(models / "poet.gguf")
    write_tiny(models / "wide.gguf", Tiny(width=64))
    for alias, model in (("poetry", "tiny:poet"), ("gone-too", "tiny:gone"), ("never", "wide:poet")):
        ModelStore.in_directory(home).add_aliases(model, [alias])
    removed = json.loads(run_nibble(home, "prune", "--yes", "--json").stdout)
    assert {each["what"] for each in removed} == {"tiny:gone", "wide:poet"}
    assert json.loads(run_nibble(home, "alias", "--json").stdout) == {"poetry": "tiny:poet"}
    twin = write_tiny(models / "twin.gguf")
    assert run_nibble(home, "prune", "--yes").stdout == "there is nothing to remove\n", (
        "it fits two models, and may be for either"
    )
    for path in (twin, poet):
        path.unlink()
    assert "tiny:poet" in run_nibble(home, "prune", "--yes").stdout


def test_what_is_said_of_models_is_json_where_asked_for(home: Path) -> None:
    def ran(*arguments: str) -> object:
        result = run_nibble(home, *arguments, "--json")
        assert result.returncode == 0, result
        return json.loads(result.stdout)

    assert ran("alias", "mine", "tiny") == ran("alias") == {"mine": "tiny"}
    assert ran("set", "tiny", "context=64", "--tag", "small") == {
        "id": "tiny",
        "settings": {"context": 64},
        "notes": "",
        "tags": ["small"],
    }
    assert ran("alias", "mine", "--remove") == {}
    assert ran("rm", "tiny", "--yes") == {
        "id": "tiny",
        "deleted": [str(home / "models" / "tiny.gguf")],
        "notes": [],
    }
