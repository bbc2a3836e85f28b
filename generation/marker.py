"""Finding marks in a text that comes in pieces, cut anywhere."""

from __future__ import annotations


def split_at_marker(text: str, markers: tuple[str, ...]) -> tuple[str, str | None, str]:
    """``text`` as what stands before the first of ``markers``, that marker, and what follows it.

    Without one: what is certainly no part of a marker, None, and the end that could still become one. The caller
    puts that end before the next piece, or takes it for text when there is none.
    """
    hits = [(at, marker) for marker in markers if (at := text.find(marker)) >= 0]
    if hits:
        # Two markers at one place are one and its longer twin.
        at, marker = min(hits, key=lambda hit: (hit[0], -len(hit[1])))
        return text[:at], marker, text[at + len(marker) :]
    held = max((_begun(text, marker) for marker in markers), default=0)
    return text[: len(text) - held], None, text[len(text) - held :]


def _begun(text: str, marker: str) -> int:
    """How many characters at the end of ``text`` could be the beginning of ``marker``."""
    for length in range(min(len(marker) - 1, len(text)), 0, -1):
        if text.endswith(marker[:length]):
            return length
    return 0
