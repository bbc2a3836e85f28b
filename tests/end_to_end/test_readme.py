"""What the README shows is what happens: its examples are run as they stand, and its settings exist.

A fenced block behind ``<!-- run -->`` is run with nothing changed but the server's address; what a block behind
``<!-- prints -->`` holds is what the block before it prints.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.setting_help import SETTING_HELP
from tests.end_to_end.live_server import MODEL, LiveServer
from tests.end_to_end.node import NODE_FOLDER, find_node
from tests.end_to_end.patience import PATIENCE_S
from tests.server.nibble_process import ROOT

README = ROOT / "README.md"
DOCUMENTED = "127.0.0.1:8000"
_BLOCK = re.compile(r"^<!-- (?P<kind>run|prints) -->\n```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Example:
    language: str
    program: str
    prints: str | None


def examples() -> list[Example]:
    found: list[Example] = []
    for block in _BLOCK.finditer(README.read_text()):
        if block["kind"] == "run":
            found.append(Example(block["language"], block["text"], None))
        else:
            found[-1] = Example(found[-1].language, found[-1].program, block["text"])
    return found


def command(example: Example) -> list[str | Path]:
    match example.language:
        case "sh":
            return ["bash", "-euo", "pipefail", "-c"]
        case "python":
            return [sys.executable, "-c"]
        case "js":
            return [find_node(), "--input-type=module", "-e"]
        case other:
            raise AssertionError(f"nobody knows how to run {other}")


@pytest.mark.model
@pytest.mark.parametrize("example", examples(), ids=lambda example: example.program.split()[0])
def test_an_example_runs_as_it_is_printed(
    server: LiveServer, example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert DOCUMENTED in example.program
    result = subprocess.run(
        [*command(example), example.program.replace(DOCUMENTED, f"127.0.0.1:{server.port}")],
        cwd=NODE_FOLDER,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    if example.prints is not None:
        assert result.stdout == example.prints
    else:
        assert f'"{MODEL}"' in result.stdout
        assert '"error"' not in result.stdout


def test_there_are_examples_for_every_client() -> None:
    assert [example.language for example in examples()] == ["sh", "sh", "sh", "python", "js"]


def test_the_settings_exist() -> None:
    (table,) = re.findall(r"^\| setting \|.*\n\|---.*\n((?:\|.*\n)+)", README.read_text(), re.M)
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named
    assert named <= SETTING_HELP.keys()


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^(?:`)?make (\w+)", README.read_text(), re.M))
    assert "run" in targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target


@pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


def test_the_rooms_that_the_design_names_exist() -> None:
    text = (ROOT / "docs" / "design.md").read_text()
    for path in re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", text):
        assert (ROOT / path).exists(), path
