"""A real server and its admin's commands: real processes, real memory, real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.admin import Admin, use

pytestmark = pytest.mark.model


def test_the_commands_of_the_same_user_need_no_key(admin: Admin) -> None:
    assert admin.server.http.get("/admin/v1/models").status_code == 403, "others do"
    use(admin, "one")
    (listed,) = json.loads(admin.nibble("ps", "--json").stdout)
    assert (listed["id"], listed["state"], listed["is_pinned"]) == ("one", "ready", False)
    assert 50e6 < listed["memory"]["resident_bytes"] < 1e9
    assert listed["use"]["generation_tokens_total"] >= 4
    assert listed["use"]["tokens_per_s"] > 0
    shown = admin.nibble("ps", COLUMNS="200")
    assert "one" in shown.stdout
    assert "tokens/s" in shown.stdout
    assert "partitioned, 2 x 512 tokens" in shown.stdout or "unified, 2 x 512" in shown.stdout
    wrong = admin.nibble("load", "three")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "'three' does not exist" in wrong.stderr


def test_wrong_keys_and_addresses_are_told_apart(admin: Admin, tmp_path: Path) -> None:
    other = {"NIBBLE_DATA_DIR": str(tmp_path), "NIBBLE_PORT": "1"}
    none = admin.nibble("ps", **other)
    assert f"no server of yours runs over {tmp_path}" in none.stderr
    refused = admin.nibble("ps", "--url", admin.server.url, **other)
    assert "needs a key of the scope 'admin'" in refused.stderr
    silent = admin.nibble("ps", "--url", "http://127.0.0.1:1", **other)
    assert "http://127.0.0.1:1 does not answer" in silent.stderr
    keyed = admin.nibble("ps", "--url", admin.server.url, NIBBLE_ADMIN_KEY=admin.key(), **other)
    assert keyed.returncode == 0, keyed
    assert admin.nibble("ps", "--url", "nonsense").returncode == 1
    for result in (none, refused, silent):
        assert (result.returncode, result.stdout) == (1, "")
        assert len(result.stderr.splitlines()) == 1, result.stderr


def test_memory_is_given_back_and_two_models_swap_under_a_budget_of_one(admin: Admin) -> None:
    for model in ("one", "two"):
        admin.post("models/unload", {"model": model})
    before = admin.resident()
    loaded = []
    for model in ("one", "two", "one", "two"):
        detail = admin.post("models/load", {"model": model})
        assert detail["state"] == "ready"
        use(admin, model)
        loaded_now = [each["id"] for each in admin.listed() if each["use"]]
        assert loaded_now == [model], "the other one made room"
        loaded.append(admin.resident())
    assert min(loaded) > before + 90e6, "its weights are there"
    assert max(loaded) < 1.15 * min(loaded), "and never those of two"
    gone = admin.told("unload", "two")
    assert (gone["state"], gone["use"]) == ("unloaded", None)
    assert admin.resident() <= before + 5e6, "and given back"
    use(admin, "one")


def test_a_busy_model_is_told_and_goes_by_force(admin: Admin) -> None:
    use(admin, "one")
    body = {"model": "one", "prompt": "Once", "max_tokens": 400, "stream": True, "ignore_eos": True}
    with admin.server.http.stream("POST", "/v1/completions", json=body) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("data: ")
        busy = admin.nibble("unload", "one")
        assert busy.returncode == 1
        assert "1 requests hold 'one'" in busy.stderr
        assert admin.nibble("unload", "one", "--force").returncode == 0
        assert any("being unloaded" in line for line in lines), "its stream ends with the reason"
    use(admin, "one")


def test_what_nothing_uses_is_shown_and_removed_on_the_word(admin: Admin) -> None:
    part = admin.home / "models" / ".lost.gguf.part"
    part.write_bytes(bytes(5000))
    shown = admin.get("prune")["data"]
    assert shown == [
        {name: value for name, value in each.items() if name != "removed"}
        for each in json.loads(admin.nibble("prune", "--dry-run", "--json").stdout)
    ]
    assert str(part) in [each["what"] for each in shown]
    assert admin.answer("prune", {"yes": False}).status_code == 400
    assert part.exists()
    pruned: Any = admin.post("prune", {"yes": True})["data"]
    assert {each["what"]: (each["removed"], each["problem"]) for each in pruned}[str(part)] == (True, "")
    assert not part.exists()
    use(admin, "one")
