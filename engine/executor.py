"""Carries out a plan: transfers, one batch, one decode, one sampled token per sequence that has logits."""

from __future__ import annotations

import numpy as np

from engine.backend import Backend
from engine.scheduler import Plan
from engine.sequence import Sequence

_COUNTING = np.arange(1 << 16, dtype=np.int32)


class Executor:
    """Owned by the worker's engine thread. Allocates nothing per token."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def run(self, plan: Plan) -> list[Sequence]:
        """Compute ``plan`` and append one token to each sequence that got logits; return those sequences.

        Raises DecodeFailed, after which no sequence of the plan has a new token.
        """
        for transfer in plan.transfers:
            self._transfer(transfer.slot, transfer.source, transfer.shared)
        count, sampled = self._fill(plan)
        if count == 0:
            return []
        logits = self._backend.decode(count, len(sampled))
        for row, sequence in enumerate(sampled):
            sequence.append(sequence.sampler.sample(logits[row], may_end=sequence.may_end))
        return sampled

    def _transfer(self, slot: int, source: int | None, shared: int) -> None:
        backend = self._backend
        if shared == 0:
            backend.clear_slot(slot)
            return
        if source is not None:
            backend.copy_slot(source, slot)
        backend.cut_slot(slot, shared)

    def _fill(self, plan: Plan) -> tuple[int, list[Sequence]]:
        """Write the batch. Returns its length and the sequences that want logits, in the order of their rows."""
        batch = self._backend.batch
        token, position, slot, wants_logits = batch.token, batch.position, batch.slot, batch.wants_logits
        sampled = list(plan.decodes)
        at = 0
        for sequence in plan.decodes:
            token[at] = sequence.tokens[sequence.computed]
            position[at] = sequence.computed
            slot[at] = sequence.slot
            at += 1
        wants_logits[:at] = 1
        for chunk in plan.chunks:
            sequence, start, end = chunk.sequence, at, at + chunk.count
            token[start:end] = sequence.tokens[chunk.start : chunk.start + chunk.count]
            position[start:end] = _COUNTING[: chunk.count]
            position[start:end] += chunk.start
            slot[start:end] = sequence.slot
            wants_logits[start:end] = 0
            if chunk.is_last:
                wants_logits[end - 1] = 1
                sampled.append(sequence)
            at = end
        return at, sampled
