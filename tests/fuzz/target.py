"""What is fuzzed: something that takes bytes, and may never fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Target:
    """``check`` raises whatever is wrong; errors that are meant to be raised it catches itself."""

    name: str
    promises: str
    """What holds for every input, in a sentence."""
    check: Callable[[bytes], None]
    seeds: tuple[bytes, ...] = ()
    """Inputs worth changing."""
    words: tuple[bytes, ...] = ()
    """Bytes that mean something to it."""
    runs: int | None = None
    """Of a whole campaign, where a million would take too long."""


def check_refusal(error: InvalidRequest) -> None:
    """It names a field, and goes to the client through two encoders."""
    assert error.param
    error.message.encode()
