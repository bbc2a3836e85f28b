"""Leftovers that a test lays out."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from model_registry.leftovers import Leftover
from model_registry.pruning import PrunedLeftover


class FakePruning:
    """Satisfies ``routes.services.PruningPort``. Owned by the event loop of the test."""

    def __init__(self) -> None:
        self.left = [Leftover(kind="lock", what="/models/.tiny.gguf.lock")]

    def find(self) -> list[Leftover]:
        return [*self.left]

    def remove(self, found: Iterable[Leftover]) -> list[PrunedLeftover]:
        pruned = [PrunedLeftover(**msgspec.structs.asdict(each), removed=each in self.left) for each in found]
        self.left = []
        return pruned
