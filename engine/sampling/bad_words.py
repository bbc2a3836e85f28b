"""Token sequences that must not come: their last token is banned whenever those before it were just generated."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from engine.sampling.candidates import Logits


class BadWords:
    """The sequences of one request, two tokens long or longer, and how much of each was generated."""

    def __init__(self, sequences: Iterable[tuple[int, ...]]) -> None:
        self._by_newest: dict[int, list[tuple[tuple[int, ...], int]]] = {}
        self._generated: list[int] = []
        self._longest = 0
        for *prefix, last in sequences:
            self._by_newest.setdefault(prefix[-1], []).append((tuple(prefix), last))
            self._longest = max(self._longest, len(prefix))

    def accept(self, token: int) -> None:
        """Note a token that was generated."""
        self._generated.append(token)
        if len(self._generated) > 2 * self._longest:
            del self._generated[: -self._longest]

    def ban(self, logits: Logits) -> None:
        """Ban in ``logits``, shape (v,), whatever would complete a sequence."""
        generated = self._generated
        if not generated:
            return
        for prefix, last in self._by_newest.get(generated[-1], ()):
            if tuple(generated[-len(prefix) :]) == prefix:
                logits[last] = -np.inf
