"""The command as a person meets it: a process, its two streams and its exit status."""

from __future__ import annotations

import inspect
import re
import socket
import subprocess
from pathlib import Path

import pytest
import typer

from server import cli
from server.command_order import ORDER
from server.settings import Settings
from tests.model_registry.fake_engine import write_gguf
from tests.server.nibble_process import run_nibble


def check_one_line(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 1, result
    assert result.stderr.startswith("nibble: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


def test_serve_has_an_option_for_every_setting() -> None:
    parameters = inspect.signature(cli.serve).parameters.keys() - {"ctx", "config"}
    assert parameters == Settings.model_fields.keys() - cli.TABLES


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_nibble_alone_prints_help(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run_nibble(tmp_path, *arguments)
    assert result.returncode == 0
    assert "Usage: nibble" in result.stdout
    assert "serve" in result.stdout
    assert not result.stderr


def test_every_command_has_its_place_in_the_help(tmp_path: Path) -> None:
    told = run_nibble(tmp_path, "--help").stdout
    listed = re.findall(r"^  ([a-z]+) {2,}\S", told[told.index("Commands:") :], re.MULTILINE)
    assert tuple(listed) == ORDER


@pytest.mark.parametrize("name", ORDER)
def test_a_command_is_left_alone_where_it_is_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are read for nothing; what is left is what answers (``nibble NAME --help``)."""
    for kind in ("registered_commands", "registered_groups"):
        monkeypatch.setattr(cli.app, kind, list(getattr(cli.app, kind)))
    cli._narrow([name, "--help"])
    left = typer.main.get_command(cli.app)
    assert isinstance(left, typer.core.TyperGroup)
    assert list(left.commands) == [name]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["nosuch"], ["--version"]])
def test_all_commands_are_there_where_none_is_named(arguments: list[str]) -> None:
    cli._narrow(arguments)
    whole = typer.main.get_command(cli.app)
    assert isinstance(whole, typer.core.TyperGroup)
    assert sorted(whole.commands) == sorted(ORDER)


def test_serve_explains_its_options(tmp_path: Path) -> None:
    result = run_nibble(tmp_path, "serve", "--help")
    assert result.returncode == 0
    assert all(
        f"--{name.replace('_', '-')}" in result.stdout for name in Settings.model_fields.keys() - cli.TABLES
    )


def test_version(tmp_path: Path) -> None:
    result = run_nibble(tmp_path, "--version")
    assert (result.returncode, result.stdout.split()[0]) == (0, "nibble")


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        check_one_line(run_nibble(tmp_path, "serve", "--port", port), f"port {port}", "in use", "--port")


def test_a_models_directory_that_does_not_exist(tmp_path: Path) -> None:
    result = run_nibble(tmp_path, "serve", "--port", "0", "--models-dir", str(tmp_path / "none"))
    check_one_line(result, "does not exist", "--models-dir")


def test_a_model_that_does_not_exist(tmp_path: Path) -> None:
    write_gguf(tmp_path / "alpha.gguf")
    result = run_nibble(tmp_path, "serve", "--port", "0", "--models-dir", str(tmp_path), "--preload", "alpa")
    check_one_line(result, "model 'alpa' does not exist", "'alpha'")


def test_options_that_were_not_given_leave_the_environment_alone(tmp_path: Path) -> None:
    result = run_nibble(tmp_path, "serve", "--port", "0", NIBBLE_PRELOAD="no-such-model")
    check_one_line(result, "model 'no-such-model' does not exist")


def test_listening_to_others_without_keys(tmp_path: Path) -> None:
    result = run_nibble(tmp_path, "serve", "--port", "0", "--host", "0.0.0.0")
    check_one_line(result, "not listening on 0.0.0.0", "--insecure-no-auth")


def test_wrong_settings(tmp_path: Path) -> None:
    (tmp_path / "nibble.toml").write_text("thread = 2\n")
    check_one_line(run_nibble(tmp_path, "serve"), "'thread' is no setting (did you mean 'threads'?)")
    (tmp_path / "nibble.toml").unlink()
    check_one_line(run_nibble(tmp_path, "serve", NIBBLE_LOG_LEVEL="loud"), "NIBBLE_LOG_LEVEL", "'loud'")


def test_list_names_every_model_and_what_is_wrong_with_it(tmp_path: Path) -> None:
    write_gguf(tmp_path / "Alpha.gguf")
    (tmp_path / "beta.gguf").write_bytes(b"")
    result = run_nibble(tmp_path, "list", "--models-dir", str(tmp_path))
    assert result.returncode == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert lines["ID"].split() == ["ID", "TYPE", "PARAMETERS", "SIZE", "NOTES"]
    assert lines["alpha"].split() == ["alpha", "F32", "1", "0", "MB"]
    assert "is empty: download it again" in lines["beta"]
