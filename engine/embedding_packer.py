"""Which inputs are computed together: pure, so that it is tested without a model."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from engine.backend import Tokens


@dataclass(frozen=True, slots=True)
class EmbeddingItem:
    """One input that waits. ``tokens`` has shape (n,), n >= 1."""

    request: int
    index: int
    tokens: Tokens


class EmbeddingPacker:
    """Inputs of many requests, packed into batches. Owned by the worker's engine thread.

    Requests take turns, one input each, so that one of two inputs is not kept waiting by one of two thousand.
    """

    def __init__(self, *, batch_tokens: int, batch_sequences: int) -> None:
        self._batch_tokens = batch_tokens
        self._batch_sequences = batch_sequences
        # In the order of their turns. No request's line is ever empty.
        self._lines: OrderedDict[int, deque[EmbeddingItem]] = OrderedDict()
        self.waiting = 0
        """Inputs that are in no batch yet."""

    def add(self, items: list[EmbeddingItem]) -> None:
        """Queue the inputs of one new request."""
        if items:
            self._lines[items[0].request] = deque(items)
            self.waiting += len(items)

    def remove(self, request: int) -> None:
        """Forget what waits of ``request``, if anything does."""
        self.waiting -= len(self._lines.pop(request, ()))

    def pack(self) -> list[EmbeddingItem]:
        """Take the next batch: at most so many tokens and inputs, but for an input that is longer, which goes alone.

        What does not fit keeps its turn, and whose turn is first is always served, so every input is computed
        after a bounded number of batches.
        """
        batch: list[EmbeddingItem] = []
        turns = deque(self._lines)
        room = max(self._batch_tokens, len(self._lines[turns[0]][0].tokens)) if turns else 0
        while turns and len(batch) < self._batch_sequences:
            request = turns.popleft()
            line = self._lines[request]
            if len(line[0].tokens) > room:
                continue
            item = line.popleft()
            room -= len(item.tokens)
            batch.append(item)
            if line:
                self._lines.move_to_end(request)
                turns.append(request)
            else:
                del self._lines[request]
        self.waiting -= len(batch)
        return batch
