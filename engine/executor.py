"""Carries out a plan: transfers, then one batch and one decode."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

import numpy as np

from engine.adapter_set import NO_ADAPTERS, AdapterSet
from engine.backend import Backend, DecodeFailed, Logits, SlotState, Tokens
from engine.prefix_cache import Save
from engine.prefix_store import PrefixStore
from engine.scheduler import Plan, Transfer
from engine.sequence import Sequence


class Executor:
    """Owned by the worker's engine thread. Allocates nothing per token."""

    def __init__(self, backend: Backend, store: PrefixStore | None, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._backend = backend
        self._batch = backend.batch
        self._counting = np.arange(backend.slot_tokens, dtype=np.int32)
        self._adapters: AdapterSet | None = NO_ADAPTERS
        """What the backend computes with now; None where that failed."""
        self._unknown: set[int] = set()
        """Slots of which a failed step left nobody knows what; they may hold more of a pool than is counted."""

    def run(self, plan: Plan) -> Logits:
        """Compute the batch of ``plan``, after ``transfer``.

        Returns the rows of each part of ``plan.batch``: of a decode also those of its drafts.
        Shape (rows, vocabulary), writable, valid until the next run. Raises DecodeFailed.
        """
        if plan.adapters is not self._adapters:
            self._set_adapters(plan.adapters)
        count, outputs = self._fill(plan)
        return self._backend.decode(count, outputs)

    def _set_adapters(self, adapters: AdapterSet) -> None:
        if adapters != self._adapters:
            self._adapters = None
            self._backend.set_adapters(adapters)
        self._adapters = adapters

    def disturb(self) -> None:
        """Somebody else computes now: nobody knows which adapters are set, and slots to be emptied are."""
        self._adapters = None
        self._clear_unknown()

    def leave_adapter(self, place: int) -> None:
        """Have the adapter at ``place`` not set."""
        if self._adapters is None or any(place == each for each, _ in self._adapters.scales):
            self._set_adapters(NO_ADAPTERS)

    def transfer(self, plan: Plan) -> list[Sequence]:
        """Fill the slots as ``plan`` says, saving what that overwrites. Raises DecodeFailed.

        Returns the sequences whose slots are empty instead, because a saved prefix was refused.
        """
        self._clear_unknown()
        unfilled: list[Sequence] = []
        empty: set[int] = set()
        for transfer in plan.transfers:
            for save in transfer.saved:
                self._save(save)
            for slot in transfer.cleared:
                self._backend.clear_slot(slot)
            # What was to be copied from a slot that could not be filled is not there either.
            if transfer.source in empty or not self._restore(transfer):
                self._backend.clear_slot(transfer.slot)
                unfilled.append(transfer.sequence)
                empty.add(transfer.slot)
            else:
                self._transfer(transfer.slot, transfer.source, transfer.shared)
                empty.discard(transfer.slot)
        return unfilled

    def _clear_unknown(self) -> None:
        while self._unknown:
            slot = min(self._unknown)
            self._backend.clear_slot(slot)
            self._unknown.remove(slot)

    def _save(self, save: Save) -> None:
        if self._store is not None and self._store.prepare(save.tokens, save.scope):
            began_s = self._clock()
            # A prefix less is no reason to fail what needs the place.
            with contextlib.suppress(DecodeFailed, MemoryError):
                state = self._backend.save_slot(save.slot)
                self._store.save(save.tokens, save.scope, state, self._clock() - began_s)

    def state(self, slot: int) -> SlotState | None:
        """What ``slot`` holds, or None if it cannot be saved."""
        with contextlib.suppress(DecodeFailed, MemoryError):
            return self._backend.save_slot(slot)
        return None

    def _restore(self, transfer: Transfer) -> bool:
        """Load what ``transfer`` restores, if anything. False if it was refused."""
        if transfer.stored is None or self._store is None:
            return True
        try:
            self._backend.load_slot(transfer.slot, self._store.take(transfer.stored))
        except DecodeFailed:
            self._store.refuse(transfer.stored)
            return False
        return True

    def forget(self, slots: Iterable[int]) -> None:
        """Empty ``slots`` before anything else is done: a step failed that was to change them."""
        self._unknown.update(slots)

    def cut(self, sequence: Sequence) -> None:
        """Take out of the cache what was computed past the tokens that ``sequence`` keeps."""
        self._backend.cut_slot(sequence.slot, sequence.computed)

    def _transfer(self, slot: int, source: int | None, shared: int) -> None:
        backend = self._backend
        if shared == 0:
            backend.clear_slot(slot)
            return
        if source is not None:
            backend.copy_slot(source, slot)
        backend.cut_slot(slot, shared)

    def _fill(self, plan: Plan) -> tuple[int, int]:
        """Write the batch. Returns its length and how many of its entries want logits."""
        at = outputs = 0
        for sequence, chunk, rows in plan.batch:
            outputs += rows
            if chunk is not None:
                at = self._put(at, sequence, chunk.tokens, chunk.start)
            else:
                tokens = sequence.tokens[sequence.computed : sequence.length]
                at = self._put(at, sequence, tokens, sequence.computed)
                if len(sequence.drafts):
                    at = self._put(at, sequence, sequence.drafts, sequence.length)
            self._batch.wants_logits[at - rows : at] = 1
        return at, outputs

    def _put(self, at: int, sequence: Sequence, tokens: Tokens, start: int) -> int:
        """Write ``tokens`` of ``sequence``, from position ``start`` on, at index ``at``; return the next index."""
        batch, count = self._batch, len(tokens)
        end = at + count
        batch.token[at:end] = tokens
        batch.position[at:end] = self._counting[start : start + count]
        batch.slot[at:end] = sequence.slot
        batch.wants_logits[at:end] = 0
        return end
