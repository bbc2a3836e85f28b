"""Each way to die while loading names its own mend."""

from __future__ import annotations

import signal

import pytest

from engine.errors import InsufficientMemory, ModelLoadFailed, NibbleError
from engine.load_death import load_death


@pytest.mark.parametrize(
    ("number", "error_class", "mend"),
    [
        (signal.SIGILL, ModelLoadFailed, "built for another processor"),
        (signal.SIGKILL, InsufficientMemory, "memory ran out"),
        (signal.SIGSEGV, ModelLoadFailed, "likely damaged: fetch it again"),
        (signal.SIGABRT, ModelLoadFailed, "likely damaged: fetch it again"),
        (signal.SIGBUS, ModelLoadFailed, "cut short while it was read"),
        (signal.SIGTERM, ModelLoadFailed, "from outside"),
        (signal.SIGUSR1, ModelLoadFailed, "log of the server"),
    ],
)
def test_a_signal_tells_the_cause(number: signal.Signals, error_class: type[NibbleError], mend: str) -> None:
    error = load_death("tiny", -number, "its last line")
    assert type(error) is error_class
    assert mend in error.message
    assert f"the worker of tiny was ended by {number.name} while loading" in error.message
    assert "its last words: its last line" in error.message
    if number != signal.SIGILL:
        assert "processor" not in error.message
    if number not in (signal.SIGSEGV, signal.SIGABRT):
        assert "damaged" not in error.message


def test_a_status_and_an_unknown_signal_are_told_as_they_are() -> None:
    assert "ended with status 3 while loading. The log" in load_death("tiny", 3).message
    assert "was ended by signal 99" in load_death("tiny", -99).message
