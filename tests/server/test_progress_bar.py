"""What a bar leaves behind."""

from __future__ import annotations

from contextlib import suppress

import pytest

from server.progress_bar import progress_bar


class Failed(Exception):
    """What the work ends with."""


def fail_after(*steps: tuple[int, int | None]) -> None:
    with suppress(Failed), progress_bar("work", is_kept=True) as progress:
        for done, whole in steps:
            progress(done, whole)
        raise Failed


def test_work_that_never_began_leaves_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    fail_after()
    assert capsys.readouterr().err == ""


def test_what_was_said_is_said_without_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("work", is_kept=True) as progress:
        progress.say("it is here already")
    assert capsys.readouterr().err == "nibble: it is here already\n"


def test_work_that_ended_on_its_way_leaves_how_far_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    fail_after((5, 10))
    told = capsys.readouterr().err
    assert "work" in told
    assert "5/10 bytes" in told


def test_on_a_terminal_a_bar_waits_and_goes_with_work_that_never_began(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    erased = "\x1b[2K"
    fail_after()
    told = capsys.readouterr().err
    assert "work" in told
    assert "work" not in told.rpartition(erased)[2]
    fail_after((5, 10))
    assert "work" in capsys.readouterr().err.rpartition(erased)[2]
