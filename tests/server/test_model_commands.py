"""The commands that look after models, as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_registry.file_facts import FileFacts
from model_registry.model_settings import ModelSettings
from model_registry.store.model_store import ModelStore
from tests.fixtures.tiny_gguf import Tiny, write_tiny
from tests.model_registry.fake_engine import write_gguf
from tests.model_registry.test_twins import twin_of
from tests.server.nibble_process import run_nibble


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    write_gguf(tmp_path / "models" / "Alpha.gguf")
    for number in (1, 2):
        write_gguf(tmp_path / "models" / f"big-0000{number}-of-00002.gguf")
    return tmp_path


def check_refused(home: Path, *arguments: str, words: str) -> None:
    result = run_nibble(home, *arguments)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result
    assert words in result.stderr


def ran(home: Path, *arguments: str) -> str:
    result = run_nibble(home, *arguments)
    assert (result.returncode, result.stderr) == (0, ""), result
    return result.stdout


def test_an_alias_is_made_listed_and_removed(home: Path) -> None:
    ran(home, "alias", "gpt-4o-mini", "alpha")
    assert ran(home, "alias") == "gpt-4o-mini  alpha\n"
    listed = {model["id"]: model for model in json.loads(ran(home, "list", "--json"))}
    assert listed["alpha"]["aliases"] == ["gpt-4o-mini"]
    assert listed["big"]["file_bytes"] == 136
    assert "alpha" in ran(home, "show", "gpt-4o-mini")
    check_refused(home, "alias", "alpha", "big", words="'alpha' is the id of a model")
    check_refused(home, "alias", "other", words="nibble alias other MODEL")
    check_refused(home, "alias", "other", "betha", words="model 'betha' does not exist")
    check_refused(home, "alias", "gpt-4o-mini", "big", words="add --move to take it from that")
    assert ran(home, "alias") == "gpt-4o-mini  alpha\n"
    ran(home, "alias", "gpt-4o-mini", "big", "--move")
    assert ran(home, "alias") == "gpt-4o-mini  big\n"
    ran(home, "alias", "gpt-4o-mini", "--remove")
    check_refused(home, "alias", "gpt-4o-mini", "--remove", words="'gpt-4o-mini' is no alias")
    check_refused(home, "alias", "--remove", words="name the alias: nibble alias ALIAS --remove")
    check_refused(home, "alias", "--move", words="name the alias: nibble alias ALIAS MODEL --move")


def test_a_change_is_told_in_a_line_and_to_programs_in_json_alone(home: Path) -> None:
    assert ran(home, "alias", "huge", "big") == "huge means big\n"
    assert ran(home, "alias", "huge", "--remove") == "huge means nothing any more\n"
    assert ran(home, "set", "alpha", "embed=true", "context=64", "--notes", "mine", "--tag", "b") == (
        "alpha has the settings context=64, embed=true; the tags b; the notes mine\n"
    )
    assert ran(home, "set", "alpha", "embed=", "context=", "--notes", "", "--no-tags") == (
        "alpha has no settings of its own\n"
    )
    told = json.loads(ran(home, "set", "alpha", "context=64", "--json"))
    assert told["settings"] == {"context": 64}
    assert ran(home, "rm", "big", "--yes") == "big is deleted\n"
    assert json.loads(ran(home, "rm", "alpha", "--yes", "--json"))["id"] == "alpha"


def test_what_the_header_of_a_file_says_is_listed_and_shown(home: Path) -> None:
    write_tiny(home / "models" / "tiny.gguf", Tiny(template="{{ messages }}", licence="mit", file_type=15))
    lines = {line.split()[0]: line.split() for line in ran(home, "list").splitlines()}
    assert lines["ID"] == ["ID", "TYPE", "PARAMETERS", "SIZE", "NOTES"]
    assert lines["tiny"] == ["tiny", "Q4_K_M", "37K", "0", "MB"]
    assert lines["big"] == ["big", "F32", "2", "0", "MB"]
    shown = json.loads(ran(home, "show", "tiny", "--json"))
    listed = {model["id"]: model for model in json.loads(ran(home, "list", "--json"))}
    assert shown == listed["tiny"] | {"adapters": []}
    assert shown.keys() > set(FileFacts.__struct_fields__)
    facts = [shown[key] for key in ("known_by", "licence", "architecture", "context", "capabilities")]
    assert facts == ["header", "mit", "llama", 128, ["chat", "completion", "tools"]]
    assert "licence         mit\n" in ran(home, "show", "tiny")


def test_tags_can_be_taken_away(home: Path) -> None:
    for clearing in (("--no-tags",), ("--tag", "")):
        ran(home, "set", "alpha", "--tag", "a", "--tag", "b")
        assert ModelStore.in_directory(home).record("alpha").tags == ("a", "b")
        ran(home, "set", "alpha", "--notes", "mine")
        assert ModelStore.in_directory(home).record("alpha").tags == ("a", "b")
        ran(home, "set", "alpha", *clearing)
        assert ModelStore.in_directory(home).record("alpha").tags == ()
    check_refused(home, "set", "alpha", "--no-tags", "--tag", "a", words="--no-tags and --tag contradict")


def test_setting_nothing_says_what_can_be_set(home: Path) -> None:
    check_refused(home, "set", "alpha", words="temperature, top_p")
    check_refused(home, "set", "alpha", words="--no-tags")


def test_settings_are_shown_as_they_are_set(home: Path) -> None:
    ran(home, "set", "alpha", "adapters=poet,clerk", "embed=false", "context=64")
    shown = run_nibble(home, "show", "alpha").stdout
    assert "settings        context=64, embed=false, adapters=poet,clerk\n" in shown


def test_settings_notes_and_tags_are_kept(home: Path) -> None:
    ran(
        home,
        "set",
        "alpha",
        "context=4096",
        "kv_budget=1MiB",
        "embed=true",
        "--notes",
        "mine",
        "--tag",
        "small",
    )
    record = ModelStore.in_directory(home).record("alpha")
    assert record.settings == ModelSettings(context=4096, kv_budget=2**20, embed=True)
    assert (record.notes, record.tags) == ("mine", ("small",))
    ran(home, "set", "alpha", "context=")
    shown = json.loads(ran(home, "show", "alpha", "--json"))
    assert shown["settings"] == {"kv_budget": 2**20, "embed": True}
    assert shown["notes"] == "mine"
    check_refused(home, "set", "alpha", "contxt=1", words="did you mean 'context'?")
    check_refused(home, "set", "alpha", "context=1", words="context must be a whole number from 16 up")
    check_refused(home, "set", "alpha", "context", words="must be KEY=VALUE")


def test_sampling_is_set_and_shown_beside_what_the_file_says(home: Path) -> None:
    (home / "nibble.toml").write_text("[models.alpha]\ntemperature = 1\nmin_p = 0.1\n")
    ran(home, "set", "alpha", "temperature=0.3", "top_k=40", "repeat_penalty=1.1", "presence_penalty=-1")
    shown = json.loads(ran(home, "show", "alpha", "--json"))
    assert shown["settings"] == {
        "temperature": 0.3,
        "top_k": 40,
        "repeat_penalty": 1.1,
        "presence_penalty": -1.0,
    }
    assert shown["configured"] == {"temperature": 1.0, "min_p": 0.1}
    assert "temperature=0.3" in ran(home, "show", "alpha")
    for wrong in ("temperature=2.1", "top_k=-2", "top_p=1.5", "min_p=-1", "repeat_penalty=0", "seed=1"):
        check_refused(home, "set", "alpha", wrong, words=wrong.partition("=")[0])


def test_rm_deletes_every_part_and_what_was_known(home: Path) -> None:
    ran(home, "alias", "huge", "big")
    assert run_nibble(home, "rm", "big").returncode == 1, "nobody said yes"
    assert (home / "models" / "big-00001-of-00002.gguf").exists()
    removed = run_nibble(home, "rm", "huge", "--yes")
    assert (removed.returncode, removed.stdout) == (0, "big is deleted\n")
    assert removed.stderr == "nibble: its other names go with it: 'huge'\n"
    assert [path.name for path in (home / "models").iterdir()] == ["Alpha.gguf"]
    assert ModelStore.in_directory(home).records() == {}
    check_refused(home, "rm", "big", "--yes", words="model 'big' does not exist")


def test_rm_tells_what_becomes_of_the_twin_before_it_asks(home: Path) -> None:
    write_gguf(home / "models" / "alpha-q4_0.gguf")
    store = ModelStore.in_directory(home)
    store.set_twin("alpha", twin_of("alpha-q4_0"))
    asked = run_nibble(home, "rm", "alpha")
    assert (asked.returncode, (home / "models" / "Alpha.gguf").exists()) == (1, True), "nobody said yes"
    assert "requests for 'alpha' find no model any more: 'alpha-q4_0'" in asked.stderr
    told = json.loads(run_nibble(home, "rm", "alpha", "--yes", "--json").stdout)
    assert told["id"] == "alpha"
    assert told["notes"][0].startswith("requests for 'alpha' find no model any more")
    assert store.records() == {}
    assert json.loads(ran(home, "show", "alpha-q4_0", "--json"))["twin"] is None


def test_the_bundled_model_is_not_deleted(home: Path) -> None:
    if "smollm2-135m-instruct" not in ran(home, "list"):
        pytest.skip("the bundled model is not installed")
    check_refused(home, "rm", "smollm2-135m-instruct", "--yes", words="uninstall that instead")
