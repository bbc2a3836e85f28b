"""Carries out a plan: transfers, then one batch and one decode."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from engine.backend import Backend, Logits, Tokens
from engine.scheduler import Plan
from engine.sequence import Sequence


class Executor:
    """Owned by the worker's engine thread. Allocates nothing per token."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._batch = backend.batch
        self._counting = np.arange(backend.slot_tokens, dtype=np.int32)
        self._unknown: set[int] = set()
        """Slots of which a failed step left nobody knows what; they may hold more of a pool than is counted."""

    def run(self, plan: Plan) -> Logits:
        """Compute ``plan``. Returns the logits behind each of ``plan.sampled``, drafts included, in that order.

        Shape (rows, vocabulary), writable, valid until the next run. Raises DecodeFailed.
        """
        while self._unknown:
            slot = min(self._unknown)
            self._backend.clear_slot(slot)
            self._unknown.remove(slot)
        for transfer in plan.transfers:
            for slot in transfer.cleared:
                self._backend.clear_slot(slot)
            self._transfer(transfer.slot, transfer.source, transfer.shared)
        count, outputs = self._fill(plan)
        return self._backend.decode(count, outputs)

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
        for sequence in plan.decodes:
            at = self._put(
                at, sequence, sequence.tokens[sequence.computed : sequence.length], sequence.computed
            )
            self._batch.wants_logits[at - 1] = 1
            outputs += 1
            if len(sequence.drafts):
                end = self._put(at, sequence, sequence.drafts, sequence.length)
                self._batch.wants_logits[at:end] = 1
                outputs += end - at
                at = end
        for chunk in plan.chunks:
            at = self._put(at, chunk.sequence, chunk.tokens, chunk.start)
            if chunk.is_last:
                self._batch.wants_logits[at - 1] = 1
                outputs += 1
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
