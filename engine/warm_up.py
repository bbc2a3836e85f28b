"""The proof that a model computes, and the first measure of how fast."""

from __future__ import annotations

import time

import numpy as np

from engine.backend import Backend, DecodeFailed
from engine.errors import ModelLoadFailed
from engine.step_budget import StepBudget

_WARM_UP_STEPS = (1, 1, 32, 1)
"""Tokens of each step: the first reads the weights, then decoding and prefill are timed."""


def warm_up(backend: Backend, budget: StepBudget) -> None:
    """Compute a few tokens. Ready means that this model computes here, not that a file was opened.

    ``budget`` learns from it. The first step is not counted: it waits for the weights to be read from the disk.
    """
    at = 0
    for count in _WARM_UP_STEPS:
        batch, end = backend.batch, at + count
        if end > backend.slot_tokens:
            break
        batch.token[:count] = 0
        batch.position[:count] = np.arange(at, end)
        batch.slot[:count] = 0
        batch.wants_logits[:count] = 0
        batch.wants_logits[count - 1] = 1
        began_s = time.monotonic()
        try:
            logits = backend.decode(count, 1)
        except DecodeFailed as error:
            raise ModelLoadFailed(
                f"the model loads and cannot compute: {error}; its file is damaged"
            ) from error
        if not bool((logits == logits).all()):
            raise ModelLoadFailed("the model computes no numbers (NaN): its file is damaged, fetch it again")
        elapsed_s = time.monotonic() - began_s
        if at and count == 1:
            budget.learn(decode_width=1, prefill_tokens=0, elapsed_s=elapsed_s)
        elif at:
            budget.learn(decode_width=0, prefill_tokens=count, elapsed_s=elapsed_s)
        at = end
    backend.clear_slot(0)
