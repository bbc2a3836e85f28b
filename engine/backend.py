"""The seam between deciding and computing: what the executor needs of whatever computes logits.

The real one is ``engine.native.context.NativeContext``; tests use a deterministic fake.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from engine.adapter import Adapter
from engine.adapter_set import AdapterSet

Tokens = npt.NDArray[np.int32]
Logits = npt.NDArray[np.float32]
SlotState = npt.NDArray[np.uint8]
"""What a slot holds, as bytes that only the same backend understands."""


class DecodeFailed(Exception):
    """A step could not be computed. Its sequences are lost; the context is still sound."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The input of one step, in memory the backend reads directly. Every array has shape (batch_tokens,)."""

    token: Tokens
    position: Tokens
    slot: Tokens
    wants_logits: npt.NDArray[np.int8]


class Backend(Protocol):
    """A KV cache of ``slots`` sequences, and the computation that fills it."""

    slots: int
    slot_tokens: int
    """Tokens that one slot holds at most."""
    pool_tokens: int | None
    """Tokens that all slots hold together, where they share one pool; None where each has its own room."""
    batch_tokens: int
    """Tokens that one step computes at most."""
    output_rows: int
    """Tokens of one step that can have logits."""
    vocabulary_size: int
    is_one_pass: bool
    """Whether a step reads the weights once, whichever slots it computes and however many tokens of each."""
    shares_prefixes: bool
    """Whether a slot can be cut to its first tokens. Recurrent memory cannot: it holds one state, not tokens."""
    batch: Batch

    def decode(self, count: int, outputs: int) -> Logits:
        """Compute the first ``count`` entries of ``batch``, of which ``outputs`` want logits.

        Returns logits of shape (outputs, vocabulary_size) in the order of the batch, valid and writable until
        the next call. Raises DecodeFailed.
        """
        ...

    def set_adapters(self, adapters: AdapterSet) -> None:
        """Compute with ``adapters`` and no others from now on. Before the first call there are none.

        What the slots hold stays, and is right for those adapters alone with which it was computed. Raises
        DecodeFailed.
        """
        ...

    def load_adapter(self, place: int, adapter: Adapter) -> None:
        """Read an adapter's file, to be set from now on as ``place``. Raises ModelLoadFailed, and changes nothing."""
        ...

    def free_adapter(self, place: int) -> None:
        """Give its memory back. It must not be set."""
        ...

    def copy_slot(self, source: int, target: int) -> None:
        """Make ``target`` hold all that ``source`` holds, and nothing else."""
        ...

    def cut_slot(self, slot: int, length: int) -> None:
        """Forget all but the first ``length`` tokens of ``slot``. Raises DecodeFailed where that cannot be."""
        ...

    def clear_slot(self, slot: int) -> None: ...

    def save_slot(self, slot: int) -> SlotState:
        """A copy of what ``slot`` holds. Raises DecodeFailed."""
        ...

    def load_slot(self, slot: int, state: SlotState) -> None:
        """Make ``slot`` hold what was saved, and nothing else. Raises DecodeFailed if ``state`` is refused."""
        ...
