"""Which tokens the slots of the KV cache hold, and how much of a prompt they spare. Pure: it only remembers.

A slot keeps its tokens after its sequence has finished, until another sequence needs the place; and a slot
whose sequence is still running serves as a source as well, for as far as its tokens are computed.

The record is one array of tokens per slot, and the longest shared prefix is found by comparing the prompt with
all of them at once. For the few hundred slots that llama.cpp allows this takes some 50 microseconds per
admission, less than a tree of Python nodes, and there is nothing to rebalance or leak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.backend import Tokens

MINIMUM_SHARED = 16
"""A shorter shared prefix is not worth a copy: computing it takes about as long."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a sequence goes: ``slot``, of which the first ``shared`` tokens are right once ``source`` is copied."""

    slot: int
    shared: int
    source: int | None = None
    """Slot to copy the prefix from; None where it stands in ``slot`` already."""


class PrefixCache:
    """The tokens in each slot, and which slots are busy. Owned by the worker's engine thread."""

    def __init__(self, slots: int, slot_tokens: int, *, is_sharing: bool = True) -> None:
        self.is_sharing = is_sharing
        self._tokens = np.full((slots, slot_tokens), -1, dtype=np.int32)
        self._lengths = np.zeros(slots, dtype=np.int64)
        self._is_busy = np.zeros(slots, dtype=bool)
        self._last_used = np.zeros(slots, dtype=np.int64)
        self._clock = 0

    @property
    def slots(self) -> int:
        return len(self._lengths)

    @property
    def free(self) -> int:
        """Slots that no running sequence holds."""
        return int((~self._is_busy).sum())

    @property
    def held_tokens(self) -> int:
        """Tokens in the cache, whether a sequence runs on them or not."""
        return int(self._lengths.sum())

    def length(self, slot: int) -> int:
        """Tokens computed in ``slot``."""
        return int(self._lengths[slot])

    def match(self, prompt: Tokens) -> tuple[int, int]:
        """The slot that shares the longest prefix with ``prompt``, and its length; ties go to a free slot."""
        shared = self._shared_lengths(prompt)
        slot = self._best(shared)
        return slot, int(shared[slot])

    def _best(self, shared: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
        """Of the slots that share most a free one, and of those the one that holds least beside it."""
        ties = np.flatnonzero(shared == shared.max())
        free = ties[~self._is_busy[ties]]
        return int(free[self._lengths[free].argmin()] if free.size else ties[0])

    def _shared_lengths(self, prompt: Tokens) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        width = min(len(prompt), self._tokens.shape[1], int(self._lengths.max()))
        if width == 0 or not self.is_sharing:
            return np.zeros(len(self._lengths), dtype=np.int64)
        differs = self._tokens[:, :width] != prompt[:width]
        first = np.where(differs.any(axis=1), differs.argmax(axis=1), width)
        return np.minimum(first, self._lengths)

    def place(self, prompt: Tokens) -> Placement:
        """Choose a free slot for a sequence with ``prompt``, and hold it. The caller has checked ``free``.

        At most all but one token of the prompt is shared, since the last one must be computed for its logits.
        """
        held = np.minimum(self._shared_lengths(prompt), len(prompt) - 1)
        source = self._best(held)
        shared = int(held[source])
        if shared < MINIMUM_SHARED:
            return self._hold(Placement(self._least_recently_used(), 0))
        # In place, if what is cut off there is worth no copy; else elsewhere, which leaves the other branch of a
        # chat its cache: the short title request between two turns shares their head, and must not cost the turns.
        is_small_loss = self.length(source) - shared < MINIMUM_SHARED
        if not self._is_busy[source] and (is_small_loss or self.free == 1):
            return self._hold(Placement(source, shared))
        target = self._least_recently_used(but=source)
        if held[target] == shared:
            return self._hold(Placement(target, shared))
        return self._hold(Placement(target, shared, source))

    def _hold(self, placement: Placement) -> Placement:
        self._is_busy[placement.slot] = True
        if placement.source is not None:
            self._touch(placement.source)
            self._tokens[placement.slot] = self._tokens[placement.source]
        self._lengths[placement.slot] = placement.shared
        self._touch(placement.slot)
        return placement

    def _least_recently_used(self, but: int | None = None) -> int:
        free = np.flatnonzero(~self._is_busy)
        if but is not None and free.size > 1:
            free = free[free != but]
        return int(free[self._last_used[free].argmin()])

    def _touch(self, slot: int) -> None:
        self._clock += 1
        self._last_used[slot] = self._clock

    def share(self, slot: int, source: int, shared: int) -> None:
        """Record that ``slot`` now holds the first ``shared`` tokens of ``source``."""
        self._tokens[slot, :shared] = self._tokens[source, :shared]
        self._lengths[slot] = shared

    def record(self, slot: int, tokens: Tokens, start: int) -> None:
        """Record that ``tokens`` were computed in ``slot`` from position ``start`` on."""
        end = start + len(tokens)
        self._tokens[slot, start:end] = tokens
        self._lengths[slot] = end

    def release(self, slot: int) -> None:
        """The sequence of ``slot`` has ended; its tokens stay until the place is needed."""
        self._is_busy[slot] = False
        self._touch(slot)

    def forget(self, slot: int) -> None:
        """What ``slot`` holds is not to be trusted any more."""
        self._lengths[slot] = 0
