"""Memory that a machine tells as free, and that a loaded model needs.

What it was promised and has not taken comes page by page, as it is written. Weights that are mapped from their file are
page cache, which is told as free since it can be read again: but for each token.
"""

from __future__ import annotations

import os

from engine.config import EngineConfig, ModelFacts
from engine.process_memory import ProcessMemory, process_memory


def anonymous_bytes() -> int:
    """What this process has in RAM that is in no file; 0 where nobody tells (macOS)."""
    own = process_memory(os.getpid())
    return own.anonymous_bytes if own else 0


def untaken_bytes(promised: int, before: int) -> int:
    """What of ``promised`` bytes was taken no pages for since this process had ``before``.

    All else that was taken since counts as a part of them. 0 where nobody tells.
    """
    now = anonymous_bytes()
    return max(0, promised - max(0, now - before)) if now else 0


def mapped_bytes(weights: int, before: int) -> int:
    """What of ``weights`` bytes in a file was not copied into memory since this process had ``before``.

    llama.cpp copies those that its kernels want in another order. 0 where nobody tells.
    """
    now = anonymous_bytes()
    return max(0, weights - max(0, now - before)) if now else 0


def kept_bytes(config: EngineConfig, *mapped: int) -> int:
    """Page cache to keep for weights of which so much is ``mapped``, by model: none where they exceed the memory.

    Nearly all of those are read from the disk for every token, however much of them is cached.
    """
    return 0 if config.spares_memory else sum(mapped)


def reserved_bytes(facts: ModelFacts, held: ProcessMemory | None) -> int:
    """What a model's processes, which hold ``held``, need of what is told as free; 0 where nobody tells."""
    if held is None:
        return 0
    taken = max(0, held.anonymous_bytes - facts.anonymous_bytes)
    return max(0, facts.reserved_bytes - taken) + facts.mapped_bytes
