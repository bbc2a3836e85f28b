"""The memory of one ``llama_batch``, seen as numpy arrays, so that filling it copies and allocates nothing."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp as llama
import numpy as np
import numpy.typing as npt

from engine.backend import Batch


class BatchMemory:
    """A batch of at most ``tokens`` tokens, each of one sequence. Owned by the context that computes it."""

    def __init__(self, tokens: int) -> None:
        self.raw = llama.llama_batch_init(tokens, 0, 1)
        self._tokens = tokens
        self._slot_of = np.empty(tokens, dtype=np.int32)
        # llama_batch_init gives each token its own one-element array of sequence ids. We point them all into
        # one array instead, so that slots too are written as a vector; the originals are put back before freeing.
        # Kept as addresses: what ctypes hands out for a pointer in an array is a view, and would change with it.
        self._own_seq_ids = [ctypes.addressof(self.raw.seq_id[i].contents) for i in range(tokens)]
        for i in range(tokens):
            self.raw.seq_id[i] = ctypes.cast(
                self._slot_of.ctypes.data + 4 * i, ctypes.POINTER(ctypes.c_int32)
            )
            self.raw.n_seq_id[i] = 1
        self.batch = Batch(
            token=self._view(self.raw.token),
            position=self._view(self.raw.pos),
            slot=self._slot_of,
            wants_logits=self._view(self.raw.logits),
        )

    def _view(self, pointer: Any) -> npt.NDArray[Any]:
        return np.ctypeslib.as_array(pointer, shape=(self._tokens,))

    def free(self) -> None:
        """Give the memory back. The arrays in ``batch`` must not be used afterwards."""
        for i, address in enumerate(self._own_seq_ids):
            self.raw.seq_id[i] = ctypes.cast(address, ctypes.POINTER(ctypes.c_int32))
        llama.llama_batch_free(self.raw)
