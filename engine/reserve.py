"""Memory that a loaded model was promised and has not taken: it comes page by page, as it is written.

What a machine tells as free is not free while a model may still come for it.
"""

from __future__ import annotations

import os

from engine.config import ModelFacts
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


def reserved_bytes(facts: ModelFacts, held: ProcessMemory | None) -> int:
    """What a model's processes, which hold ``held``, may still come for; 0 where nobody tells."""
    if held is None:
        return 0
    taken = max(0, held.anonymous_bytes - facts.anonymous_bytes)
    return max(0, facts.reserved_bytes - taken)
