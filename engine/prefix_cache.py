"""Which tokens the slots of the KV cache hold, and how much of a prompt they spare. Pure: it only remembers.

A slot keeps its tokens after its sequence has finished, until another sequence needs the place; and a slot
whose sequence is still running serves as a source as well, for as far as its tokens are computed.

The record is one array of tokens per slot, and the longest shared prefix is found by comparing the prompt with
all of them at once. For the few hundred slots that llama.cpp allows this takes some 50 microseconds per
admission, less than a tree of Python nodes, and there is nothing to rebalance or leak.

The slots either have room of their own each (partitioned), or share one pool of tokens (unified). In a pool
every running sequence has a promise: room for its prompt and the longest answer it may give, or for the whole
context where it set no limit. Promises and what idle slots hold never exceed the pool together, so no running
sequence can run out, whatever the others do; who cannot be promised enough waits. llama.cpp lets copies share
their cells; we count each slot in full, and so may be too careful, never too bold.

Every slot has a scope, that of the sequence which filled it last, and only sequences of the same scope find what
it holds: how fast an answer begins would else tell one key's user what another's prompts are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from engine.backend import Tokens
from engine.prefix_store import LEAST_SAVED, StoredPrefix, common_length

MINIMUM_SHARED = 16
"""A shorter shared prefix is not worth a copy: computing it takes about as long."""


@dataclass(frozen=True, slots=True)
class Save:
    """``slot`` holds ``tokens``, of ``scope``, and is about to lose them."""

    slot: int
    tokens: Tokens
    scope: str


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a sequence goes: ``slot``, of which the first ``shared`` tokens are right once ``source`` is copied."""

    slot: int
    shared: int
    source: int | None = None
    """Slot to copy the prefix from; None where it stands in ``slot`` already."""
    cleared: tuple[int, ...] = ()
    """Idle slots to empty before, to make room in the pool."""
    saved: tuple[Save, ...] = ()
    """What is worth saving of all that is overwritten and emptied."""
    stored: StoredPrefix | None = None
    """What to restore into ``slot``, instead of a copy."""
    restored: int = 0
    """Of ``shared``, what the slots would not have spared without it."""


class PrefixCache:
    """The tokens in each slot, and which slots are busy. Owned by the worker's engine thread."""

    def __init__(
        self,
        slots: int,
        slot_tokens: int,
        *,
        is_sharing: bool = True,
        pool_tokens: int | None = None,
        is_saving: bool = False,
    ) -> None:
        """``pool_tokens`` is what all slots share; None gives each its own ``slot_tokens``.

        ``is_saving`` is whether placements name what is worth saving.
        """
        self._is_saving = is_saving
        self.is_sharing = is_sharing
        self._pool_tokens = pool_tokens
        self._promised = np.zeros(slots, dtype=np.int64)
        self._tokens = np.full((slots, slot_tokens), -1, dtype=np.int32)
        self._lengths = np.zeros(slots, dtype=np.int64)
        # Whole strings, not numbers for them: nothing has to be counted or forgotten when a scope is no more. And not
        # in an array: numpy takes strings for equal that differ in NULs at the end.
        self._scopes = [""] * slots
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

    @property
    def running_tokens(self) -> int:
        """Tokens in the cache that sequences run on."""
        return int(self._lengths[self._is_busy].sum())

    @property
    def taken_tokens(self) -> int:
        """Tokens of the pool that are promised to running sequences or held by idle slots."""
        return int(self._promised.sum() + self._lengths[~self._is_busy].sum())

    @property
    def is_pooled(self) -> bool:
        """Whether the slots share one buffer of the KV cache."""
        return self._pool_tokens is not None

    def has_room(self, tokens: int) -> bool:
        """Whether a sequence of at most ``tokens`` can be placed now, at the cost of idle slots if need be."""
        return self.free > 0 and self._can_promise(tokens)

    def _can_promise(self, tokens: int) -> bool:
        return self._pool_tokens is None or int(self._promised.sum()) + tokens <= self._pool_tokens

    def length(self, slot: int) -> int:
        """Tokens computed in ``slot``."""
        return int(self._lengths[slot])

    def match(self, prompt: Tokens, scope: str) -> tuple[int, int]:
        """The slot that shares the longest prefix with ``prompt`` in ``scope``, and its length.

        Ties go to a free slot. Where nothing is shared, the slot may be one of another scope.
        """
        shared = self._shared_lengths(prompt, scope)
        slot = self._best(shared)
        return slot, int(shared[slot])

    def _best(self, shared: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
        """Of the slots that share most a free one, and of those the one that holds least beside it."""
        ties = np.flatnonzero(shared == shared.max())
        free = ties[~self._is_busy[ties]]
        return int(free[self._lengths[free].argmin()] if free.size else ties[0])

    def _shared_lengths(self, prompt: Tokens, scope: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        width = min(len(prompt), self._tokens.shape[1], int(self._lengths.max()))
        if width == 0 or not self.is_sharing:
            return np.zeros(len(self._lengths), dtype=np.int64)
        differs = self._tokens[:, :width] != prompt[:width]
        first = np.where(differs.any(axis=1), differs.argmax(axis=1), width)
        is_within = np.array([other == scope for other in self._scopes])
        return np.where(is_within, np.minimum(first, self._lengths), 0)

    def place(
        self,
        prompt: Tokens,
        scope: str,
        tokens: int,
        stored: StoredPrefix | None = None,
        *,
        may_share: bool = True,
    ) -> Placement:
        """Choose a free slot for a sequence with ``prompt`` that grows to ``tokens`` at most, and hold it.

        The caller has checked ``has_room``. At most all but one token of the prompt is shared, since the last one
        must be computed for its logits; without ``may_share``, none. ``stored`` is what could be restored, and is
        where that spares enough. From now on the slot is of ``scope``.
        """
        # All of a stored prefix is restored before it is cut: for that moment it needs room in whole.
        if stored is not None and not self._can_promise(max(tokens, len(stored.tokens))):
            stored = None
        placement = self._choose(prompt, scope, stored) if may_share else Placement(self._cheapest(), 0)
        needed = tokens if placement.stored is None else max(tokens, len(placement.stored.tokens))
        placement = self._make_room(placement, needed)
        is_in_place = placement.source is None and placement.stored is None
        overwritten = self._worth_saving(placement.slot, placement.shared if is_in_place else 0)
        placement = replace(placement, saved=placement.saved + overwritten)
        self._hold(placement)
        self._scopes[placement.slot] = scope
        self._tokens[placement.slot, : placement.shared] = prompt[: placement.shared]
        self._promised[placement.slot] = tokens
        return placement

    def _worth_saving(self, slot: int, kept: int) -> tuple[Save, ...]:
        """The tokens of ``slot``, unless nearly all of them are ``kept`` there or stand in another slot."""
        length = self.length(slot)
        if not self._is_saving or length - kept < LEAST_SAVED:
            return ()
        tokens = self._tokens[slot, :length].copy()
        scope = self._scopes[slot]
        shared = self._shared_lengths(tokens, scope)
        shared[slot] = kept
        return (Save(slot, tokens, scope),) if length - int(shared.max()) >= LEAST_SAVED else ()

    def worth_keeping(self) -> list[Save]:
        """What the slots hold that is worth outliving them, the most recently used first."""
        kept: list[Save] = []
        for slot in np.argsort(-self._last_used).tolist():
            tokens = self._tokens[slot, : self.length(slot)]
            scope = self._scopes[slot]
            held = max(
                (common_length(save.tokens, tokens) for save in kept if save.scope == scope), default=0
            )
            if len(tokens) - held >= LEAST_SAVED:
                kept.append(Save(slot, tokens.copy(), scope))
        return kept

    def _choose(self, prompt: Tokens, scope: str, stored: StoredPrefix | None) -> Placement:
        held = np.minimum(self._shared_lengths(prompt, scope), len(prompt) - 1)
        source = self._best(held)
        shared = int(held[source])
        if stored is not None:
            restored = min(stored.shared(prompt), len(prompt) - 1)
            if restored >= shared + stored.least_gain:
                return Placement(self._cheapest(), restored, stored=stored, restored=restored - shared)
        if shared < MINIMUM_SHARED:
            return Placement(self._cheapest(), 0)
        # In place, if what is cut off there is worth no copy; else elsewhere, which leaves the other branch of a
        # chat its cache: the short title request between two turns shares their head, and must not cost the turns.
        is_small_loss = self.length(source) - shared < MINIMUM_SHARED
        if not self._is_busy[source] and (is_small_loss or self.free == 1):
            return Placement(source, shared)
        target = self._cheapest(but=source)
        if held[target] == shared:
            return Placement(target, shared)
        return Placement(target, shared, source)

    def _make_room(self, placement: Placement, tokens: int) -> Placement:
        """Forget idle slots, the longest unused first, until the pool has ``tokens`` for ``placement``."""
        if self._pool_tokens is None:
            return placement
        cleared: list[int] = []
        saved: tuple[Save, ...] = ()
        while self.taken_tokens - self.length(placement.slot) + tokens > self._pool_tokens:
            idle = ~self._is_busy & (self._lengths > 0)
            idle[[placement.slot, placement.slot if placement.source is None else placement.source]] = False
            victims = np.flatnonzero(idle)
            if victims.size:
                victim = int(victims[self._last_used[victims].argmin()])
                saved += self._worth_saving(victim, 0)
                self._lengths[victim] = 0
                cleared.append(victim)
            else:
                # Only the idle source is left in the way: go on in its place instead of a copy.
                assert placement.source is not None, "the caller has checked has_room"
                placement = Placement(placement.source, placement.shared)
        return replace(placement, cleared=tuple(cleared), saved=saved)

    def _hold(self, placement: Placement) -> None:
        self._is_busy[placement.slot] = True
        if placement.source is not None:
            self._touch(placement.source)
        self._lengths[placement.slot] = placement.shared
        self._touch(placement.slot)

    def _cheapest(self, but: int | None = None) -> int:
        """The free slot to take: empty rather than not, and of those that hold something the longest unused.

        Slots with buffers of their own are computed together only where they are neighbours (``Plan.batch``): each gap
        between them costs time in every step, without scripts/joined_passes.h that of a pass over all weights. So where
        what is lost is saved, for which it is restored in milliseconds, the slot is taken that leaves the fewest gaps.
        """
        free = np.flatnonzero(~self._is_busy)
        if but is not None and free.size > 1:
            free = free[free != but]
        keys = [self._last_used[free], self._lengths[free] > 0]
        if self._is_saving and not self.is_pooled:
            keys.append(-self._busy_neighbours()[free])
        return int(free[np.lexsort(keys)[0]])

    def _busy_neighbours(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """How many of the slots beside each are busy. A slot takes that many runs of busy ones, less one, away."""
        busy = np.pad(self._is_busy.astype(np.int64), 1)
        return busy[:-2] + busy[2:]

    def lend(self) -> tuple[int, bool]:
        """A slot in which there is room for one token, and whether a sequence runs on it; else it is empty now."""
        if self.free and (self._pool_tokens is None or self.taken_tokens < self._pool_tokens):
            slot = self._cheapest()
        elif (idle := np.flatnonzero(~self._is_busy & (self._lengths > 0))).size:
            slot = int(idle[self._last_used[idle].argmin()])
        else:
            return int(self._lengths.argmax()), True
        self.forget(slot)
        return slot, False

    def _touch(self, slot: int) -> None:
        self._clock += 1
        self._last_used[slot] = self._clock

    def share(self, slot: int, source: int, shared: int) -> None:
        """Record that ``slot`` now holds the first ``shared`` tokens of ``source``, which is of the same scope."""
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
        self._promised[slot] = 0
        self._touch(slot)

    def forget(self, slot: int) -> None:
        """What ``slot`` holds is not to be trusted any more."""
        self._lengths[slot] = 0
