"""``nibble import`` of an adapter, and what the other commands tell of it; the worker that tries it out is real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.cli import app
from tests.fixtures.tiny_gguf import Tiny, TinyAdapter, write_tiny, write_tiny_adapter

pytestmark = pytest.mark.model


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "some").mkdir()
    (tmp_path / "far").mkdir()
    write_tiny(tmp_path / "some" / "tiny.gguf")
    return tmp_path


def _run(home: Path, *arguments: str, status: int = 0) -> str:
    """What it printed; where it was to fail, what it said of it."""
    places = ("--models-dir", str(home / "some"), "--data-dir", str(home / "data"))
    result = CliRunner().invoke(app, [*arguments, *places])
    assert result.exit_code == status, result.output
    return result.stdout if status == 0 else result.stderr


def test_an_adapter_is_imported_listed_shown_named_and_removed(home: Path) -> None:
    far = write_tiny_adapter(home / "far" / "poet.gguf")
    assert _run(home, "import", str(far)).startswith("tiny:poet: a LoRA adapter of tiny,")
    link = home / "some" / "poet.gguf"
    assert link.resolve() == far
    listed = {each["id"]: each for each in json.loads(_run(home, "list", "--json"))}
    assert (listed["tiny:poet"]["parent"], listed["tiny:poet"]["failure"]) == ("tiny", None)
    assert json.loads(_run(home, "show", "tiny", "--json"))["adapters"] == ["tiny:poet"]
    assert json.loads(_run(home, "show", "tiny:poet", "--json"))["adapter"] == "poet"
    assert "adapter" in _run(home, "list")
    _run(home, "alias", "bard", "tiny:poet")
    assert "is the id of a model" in _run(home, "alias", "tiny:poet", "tiny", status=1)
    assert json.loads(_run(home, "show", "bard", "--json"))["id"] == "tiny:poet"
    for command in (
        ("set", "bard", "context=64"),
        ("quantize", "tiny:poet", "--to", "Q8_0"),
        ("tune", "tiny:poet"),
    ):
        told = _run(home, *command, status=1)
        assert f"'{command[1]}' is 'tiny' with an adapter: name 'tiny'" in told
    assert json.loads(_run(home, "rm", "tiny:poet", "--yes", "--json"))["deleted"] == [str(link)]
    assert far.exists()
    assert not link.exists()
    assert (home / "some" / "tiny.gguf").exists()


def test_where_several_models_fit_a_person_says_which(home: Path) -> None:
    write_tiny(home / "some" / "twin.gguf")
    far = write_tiny_adapter(home / "far" / "poet.gguf")
    assert "fits several models ('tiny', 'twin')" in _run(home, "import", str(far), status=1)
    assert not (home / "some" / "poet.gguf").exists()
    told = json.loads(_run(home, "import", str(far), "--for", "twin", "--json"))
    assert (told["id"], told["model"]) == ("twin:poet", "twin")
    assert json.loads(_run(home, "show", "twin", "--json"))["settings"] == {"adapters": ["poet"]}
    assert "tiny:poet" not in _run(home, "list")
    _run(home, "set", "tiny", "adapters=poet")
    assert "tiny:poet" in _run(home, "list")
    _run(home, "rm", "twin:poet", "--yes")
    assert json.loads(_run(home, "show", "twin", "--json"))["settings"] == {}


def test_rm_leaves_a_file_that_lies_elsewhere_and_says_which_setting_names_it(home: Path) -> None:
    far = write_tiny_adapter(home / "far" / "clerk.gguf")
    _run(home, "set", "tiny", f"adapters=clerk={far}")
    told = _run(home, "rm", "tiny:clerk", "--yes", status=1)
    assert "out of the setting adapters of 'tiny' (nibble set tiny adapters=)" in told
    assert far.exists()
    _run(home, "set", "tiny", "adapters=")
    assert "tiny:clerk" not in _run(home, "list")


def test_an_adapter_is_verified_by_its_name_and_with_all_models(home: Path) -> None:
    write_tiny_adapter(home / "some" / "poet.gguf")
    write_tiny(home / "some" / "wide.gguf", Tiny(width=64))
    _run(home, "alias", "bard", "tiny:poet")
    sound = "tiny:poet: header ok, digest unknown"
    assert _run(home, "verify", "bard") == f"{sound}\n"
    assert _run(home, "verify", "tiny:poet", "--load") == f"{sound}, load ok\n"
    assert sound in _run(home, "verify")
    _run(home, "set", "wide", "adapters=poet")
    told = _run(home, "verify", "wide:poet", "--load", status=1)
    assert "poet.gguf was made for another model than 'wide'" in told
    _run(home, "set", "wide", "adapters=")
    numberless = write_tiny_adapter(home / "some" / "nan.gguf", TinyAdapter(weight=float("nan")))
    assert "header ok" in _run(home, "verify", "tiny:nan")
    assert "computes no numbers" in _run(home, "verify", "tiny:nan", "--load", status=1)
    numberless.write_bytes(numberless.read_bytes()[:-2000])
    assert "nan.gguf ends before its weights do" in _run(home, "verify", status=1)


def test_one_that_is_set_at_the_start_is_verified_too(home: Path) -> None:
    far = write_tiny_adapter(home / "far" / "clerk.gguf")
    (home / "nibble.toml").write_text(f"adapters = ['tiny:clerk={far}']")
    config = ("--config", str(home / "nibble.toml"))
    assert _run(home, "verify", "tiny:clerk", "--load", *config).endswith("load ok\n")
    far.unlink()
    assert "No such file" in _run(home, "verify", "tiny:clerk", *config, status=1)


@pytest.mark.parametrize(
    ("made", "extra", "why"),
    [
        (TinyAdapter(base=Tiny(width=64)), (), "no model here has its shapes"),
        (TinyAdapter(base=Tiny(width=64)), ("--for", "tiny"), "has its shapes"),
        (TinyAdapter(weight=float("nan")), (), "computes no numbers"),
        (TinyAdapter(), ("--for", "other"), "does not exist"),
    ],
)
def test_one_that_does_not_work_is_not_linked(
    made: TinyAdapter, extra: tuple[str, ...], why: str, home: Path
) -> None:
    far = write_tiny_adapter(home / "far" / "poet.gguf", made)
    assert why in _run(home, "import", str(far), *extra, status=1)
    assert not (home / "some" / "poet.gguf").exists()


def test_for_is_said_of_adapters_alone(home: Path) -> None:
    far = write_tiny(home / "far" / "other.gguf")
    why = "names the model of a LoRA adapter, and"
    assert why in _run(home, "import", str(far), "--for", "tiny", status=1)
    assert why in _run(home, "import", "--from", "ollama", "other", "--for", "tiny", status=1)
