"""The catalogue, and what other programs have fetched."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from model_registry.catalog.catalog import catalog
from server.cli import app
from tests.fixtures.tiny_gguf import write_tiny
from tests.model_registry.caches import layouts


async def test_the_catalogue_is_that_of_the_command(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/admin/v1/catalog")).json()
    assert listed["object"] == "list"
    assert [each["id"] for each in listed["data"]] == [*catalog()]
    told = json.loads(CliRunner().invoke(app, ["catalog", "--json"]).stdout)
    assert listed["data"] == told


async def test_what_others_have_fetched_is_listed_as_by_the_command(
    http: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path))
    content = write_tiny(tmp_path / "tiny.bin").read_bytes()
    layouts.ollama(tmp_path / "ollama", "library/tiny/1b", content, layouts.TEMPLATE)
    layouts.huggingface(tmp_path / "hub", "owner/repo", {"mini-Q4_0.gguf": content})
    listed = (await http.get("/admin/v1/found")).json()
    assert [(each["from"], each["name"]) for each in listed["data"]] == [
        ("ollama", "tiny:1b"),
        ("huggingface", "owner/repo:mini-Q4_0"),
    ]
    assert listed["data"] == json.loads(CliRunner().invoke(app, ["import", "--found", "--json"]).stdout)
    of_one = (await http.get("/admin/v1/found?from=ollama")).json()
    assert of_one["data"] == listed["data"][:1]
    for query in ("from=gpt4all", "from=", "form=ollama"):
        told = await http.get(f"/admin/v1/found?{query}")
        assert (told.status_code, told.json()["error"]["param"]) == (400, query.partition("=")[0])
