"""``make fuzz`` as a command: it goes on where it was interrupted, keeps what failed, and says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from tests.fuzz.progress import Part, Progress
from tests.server.nibble_process import ROOT


def fuzz(keep: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments, "--keep", str(keep)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_campaign_goes_on_and_can_be_begun_anew(tmp_path: Path) -> None:
    first = fuzz(tmp_path, "detokenizer", "--runs", "300")
    assert first.returncode == 0, first.stderr
    assert "detokenizer: 300 runs" in first.stdout
    again = fuzz(tmp_path, "detokenizer", "--runs", "500")
    assert "detokenizer: 500 runs" in again.stdout
    progress = msgspec.json.decode((tmp_path / "progress.json").read_bytes(), type=dict[str, Part])
    assert (progress["detokenizer"].rounds, progress["detokenizer"].runs) == (2, 500)


def test_failures_are_told_by_the_exit_status(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress.json", is_fresh=True)
    progress.parts["detokenizer"] = Part(rounds=1, runs=10, failures=["AssertionError at x.py:1: so"])
    progress.save()
    told = fuzz(tmp_path, "detokenizer", "--runs", "10")
    assert told.returncode == 1
    assert "1 FAILED" in told.stdout
    assert "x.py:1" in told.stdout


def test_a_part_that_there_is_not_is_named(tmp_path: Path) -> None:
    told = fuzz(tmp_path, "tokens")
    assert told.returncode == 2
    assert "tokens" in told.stderr
