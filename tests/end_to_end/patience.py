"""Waiting for a condition, and for nothing else: the limits only keep a broken server from hanging the tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 120.0
"""Far more than anything here takes on idle cores: llama.cpp slows down many times where cores are contended."""
_PAUSE_S = 0.02

Value = TypeVar("Value")


def eventually(look: Callable[[], Value], wanted: Callable[[Value], bool], what: str) -> Value:
    """Look until what is seen is wanted; return it. Fails with what was seen last."""
    deadline = time.monotonic() + PATIENCE_S
    while not wanted(seen := look()):
        assert time.monotonic() < deadline, f"waited in vain until {what}; last seen: {seen!r}"
        time.sleep(_PAUSE_S)
    return seen
