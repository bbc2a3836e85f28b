"""The sizes of a context, before llama.cpp sees them: its numbers have 32 bits, and it aborts on some that are none."""

from __future__ import annotations

from engine.errors import InsufficientMemory

MOST_SEQUENCES = 256
"""LLAMA_MAX_SEQ of this build."""
_MOST_TOKENS = 2**31 - 1
_MOST_THREADS = 1024


def check_sizes(*, sequences: int, tokens: int, batch: int, threads: int) -> None:
    """Raise InsufficientMemory for what no context can have, whatever the memory."""
    for name, value, most in (
        ("parallel", sequences, MOST_SEQUENCES),
        ("context", tokens, _MOST_TOKENS),
        ("the batch", batch, _MOST_TOKENS),
        ("threads", threads, _MOST_THREADS),
    ):
        if not 1 <= value <= most:
            raise InsufficientMemory(f"{name} comes to {value}, and 1 to {most} is possible; set it lower")
