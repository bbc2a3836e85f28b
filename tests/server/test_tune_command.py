"""``nibble tune`` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fixtures.tiny_gguf import Tiny, write_tiny
from tests.server.nibble_process import ROOT, run_nibble

_TEXT = "It was late, and the lamps along the quay were lit already. " * 6


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    write_tiny(tmp_path / "models" / "tiny.gguf", Tiny(width=64))
    (tmp_path / "text.txt").write_text(_TEXT)
    return tmp_path


def test_twins_are_measured_shown_and_drawn(home: Path) -> None:
    result = run_nibble(
        home,
        "tune",
        "tiny",
        "--text",
        "text.txt",
        "--types",
        "q8_0,q1_0",
        "--plot",
        "a.svg",
        "--threads",
        "1",
    )
    assert result.returncode == 0, result
    assert "Q8_0" in result.stdout
    assert "F32" in result.stdout
    assert result.stdout.endswith("'nibble tune tiny --apply TYPE' lets one of them serve in its place\n")
    assert "Q1_0 is left out" in result.stderr
    assert "the plot is in a.svg" in result.stderr
    assert "<svg" in (home / "a.svg").read_text()
    assert sorted(path.name for path in (home / "models").iterdir()) == ["tiny.gguf"]
    assert "served by" not in run_nibble(home, "list").stdout


def test_a_twin_is_applied_shown_and_gone_back_from(home: Path) -> None:
    result = run_nibble(home, "tune", "tiny", "--text", "text.txt", "--apply", "q4_0", "--json")
    assert result.returncode == 0, result
    told = json.loads(result.stdout)
    assert (told["twin_id"], len(told["unbeaten"]), told["original"]["quantisation"]) == (
        "tiny-q4_0",
        2,
        "F32",
    )
    assert (home / "tune-tiny.png").read_bytes().startswith(b"\x89PNG")
    shown = json.loads(run_nibble(home, "show", "tiny", "--json").stdout)
    assert (shown["twin"]["id"], shown["twin"]["twin"]) == ("tiny-q4_0", told["twins"][0])
    assert "tiny-q4_0 serves its requests: Q4_0 instead of F32" in run_nibble(home, "show", "tiny").stdout
    listed = run_nibble(home, "list").stdout
    assert "served by tiny-q4_0" in listed
    assert "made of tiny" in listed
    assert run_nibble(home, "tune", "tiny", "--revert", "--apply", "q4_0").returncode == 1
    reverted = run_nibble(home, "tune", "tiny", "--revert")
    assert "serves its requests itself again; 'nibble rm tiny-q4_0' deletes" in reverted.stdout
    assert "served by" not in run_nibble(home, "list").stdout
    assert run_nibble(home, "tune", "tiny", "--revert").returncode == 1


def test_without_matplotlib_the_table_is_there_and_the_plot_says_what_it_needs(home: Path) -> None:
    (home / "matplotlib").mkdir()
    (home / "matplotlib" / "__init__.py").write_text("raise ImportError('not here')")
    extra = {"PYTHONPATH": f"{home}:{ROOT}"}
    arguments = ("tune", "tiny", "--text", "text.txt", "--types", "q8_0")
    result = run_nibble(home, *arguments, **extra)
    assert (result.returncode, "Q8_0" in result.stdout) == (0, True), result
    assert "pip install 'nibble-server[plot]'" in result.stderr
    asked = run_nibble(home, *arguments, "--plot", "a.png", **extra)
    assert (asked.returncode, asked.stdout) == (1, ""), (
        "a plot was asked for, and nothing is measured without it"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--text", "none.txt"), "none.txt cannot be read (No such file or directory)"),
        (("--types", "q8_0,q9"), "'q9' is no type of quantisation"),
        (("--apply", "iq1_s"), "IQ1_S needs an importance matrix"),
        (("--plot", "a.txt"), "a.txt must end in .png, .svg"),
        (("--plot", "none/a.png"), "none is no directory"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_measured(
    home: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = run_nibble(home, "tune", "tiny", *arguments)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result
    assert words in result.stderr
