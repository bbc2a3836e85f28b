"""A llama.cpp context: the KV cache in slots, the batch memory, and the one call that computes.

Owned by the worker's engine thread; no other thread may touch it.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp as llama
import numpy as np
import numpy.typing as npt

from engine.backend import Batch, DecodeFailed, SlotState
from engine.config import CacheType, FlashAttention
from engine.errors import InsufficientMemory
from engine.native.model import NativeModel

_DRAFT_ROWS = 64
"""Rows of logits beyond one per slot, for drafted tokens."""
_CACHE_TYPES: dict[CacheType, int] = {"f16": 1, "q8_0": 8, "q4_0": 2}  # enum ggml_type
_FLASH_ATTENTION: dict[FlashAttention, int] = {"auto": -1, "off": 0, "on": 1}  # enum llama_flash_attn_type
_FATAL = {1: "no room in the KV cache", 2: "aborted", -1: "invalid batch"}


class NativeContext:
    """Implements ``engine.backend.Backend`` over llama.cpp.

    Without ``pool_tokens`` each slot has a partition of the KV cache for itself; with it, all share one.
    """

    def __init__(
        self,
        model: NativeModel,
        *,
        slots: int,
        slot_tokens: int,
        pool_tokens: int | None = None,
        batch_tokens: int,
        threads: int,
        cache_type: CacheType = "f16",
        flash_attention: FlashAttention = "auto",
    ) -> None:
        params = llama.llama_context_default_params()
        params.n_ctx = pool_tokens or slots * slot_tokens
        params.n_seq_max = slots
        params.n_batch = params.n_ubatch = batch_tokens
        self.output_rows = slots + _DRAFT_ROWS
        params.n_outputs_max = self.output_rows
        params.n_threads = params.n_threads_batch = threads
        # One buffer per sequence is some 20 % faster to decode than one that all share; see memory_plan.
        params.kv_unified = pool_tokens is not None
        params.type_k = params.type_v = _CACHE_TYPES[cache_type]
        params.flash_attn_type = _FLASH_ATTENTION[flash_attention]
        params.no_perf = True
        self._handle = llama.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise InsufficientMemory(
                f"{model.path.name} with a context of {slots} x {slot_tokens} tokens does not fit in memory; "
                "lower `context` or `parallel`"
            )
        self._memory = llama.llama_get_memory(self._handle)
        self.slots = slots
        # llama.cpp rounds up to 256; in a pool it allows each sequence all of it.
        self.slot_tokens = int(llama.llama_n_ctx_seq(self._handle))
        self.pool_tokens: int | None = None
        if pool_tokens is not None:
            self.slot_tokens = min(self.slot_tokens, slot_tokens)
            self.pool_tokens = pool_tokens
        self.batch_tokens = int(llama.llama_n_batch(self._handle))
        self.vocabulary_size = model.vocabulary.size
        self.shares_prefixes = not model.is_recurrent
        self._batch = llama.llama_batch_init(self.batch_tokens, 0, 1)
        self.batch = self._map_batch()

    def _map_batch(self) -> Batch:
        """numpy views on the batch's own memory, so that filling it copies and allocates nothing."""

        def view(pointer: Any) -> npt.NDArray[Any]:
            return np.ctypeslib.as_array(pointer, shape=(self.batch_tokens,))

        raw = self._batch
        slot_of = np.empty(self.batch_tokens, dtype=np.int32)
        # llama_batch_init gives each token its own one-element array of sequence ids. We point them all into
        # one array instead, so that slots too are written as a vector; the originals are put back before freeing.
        # Kept as addresses: what ctypes hands out for a pointer in an array is a view, and would change with it.
        self._own_seq_ids = [ctypes.addressof(raw.seq_id[i].contents) for i in range(self.batch_tokens)]
        for i in range(self.batch_tokens):
            raw.seq_id[i] = ctypes.cast(slot_of.ctypes.data + 4 * i, ctypes.POINTER(ctypes.c_int32))
            raw.n_seq_id[i] = 1
        return Batch(
            token=view(raw.token),
            position=view(raw.pos),
            slot=slot_of,
            wants_logits=view(raw.logits),
        )

    def decode(self, count: int, outputs: int) -> npt.NDArray[np.float32]:
        """Compute the first ``count`` tokens of the batch; see ``engine.backend.Backend.decode``."""
        batch = self.batch
        if not 0 < count <= self.batch_tokens or not 0 <= outputs <= self.output_rows:
            raise DecodeFailed(
                f"a batch of {count} tokens with {outputs} outputs is past the context's limits"
            )
        token, position, slot = batch.token[:count], batch.position[:count], batch.slot[:count]
        if (
            int(token.min()) < 0
            or int(token.max()) >= self.vocabulary_size
            or int(slot.min()) < 0
            or int(slot.max()) >= self.slots
            or int(position.min()) < 0
            or int(position.max()) >= self.slot_tokens
        ):
            raise DecodeFailed("the batch holds a token, slot or position out of range")
        self._batch.n_tokens = count
        status = llama.llama_decode(self._handle, self._batch)
        if status != 0:
            raise DecodeFailed(_FATAL.get(status, f"llama_decode says {status}"))
        return self._read_logits(outputs)

    def _read_logits(self, outputs: int) -> npt.NDArray[np.float32]:
        if outputs == 0:
            return np.empty((0, self.vocabulary_size), dtype=np.float32)
        pointer = llama.llama_get_logits(self._handle)
        return np.ctypeslib.as_array(pointer, shape=(outputs, self.vocabulary_size))

    def copy_slot(self, source: int, target: int) -> None:
        """Make ``target`` hold what ``source`` holds. Whole: llama.cpp aborts on a partial copy across partitions."""
        self._check_slot(source)
        self.clear_slot(target)
        llama.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def cut_slot(self, slot: int, length: int) -> None:
        """Forget all but the first ``length`` tokens of ``slot``."""
        self._check_slot(slot)
        if not llama.llama_memory_seq_rm(self._memory, slot, length, -1):
            raise DecodeFailed(f"this model's memory cannot be cut to {length} tokens")

    def clear_slot(self, slot: int) -> None:
        self._check_slot(slot)
        llama.llama_memory_seq_rm(self._memory, slot, -1, -1)

    def save_slot(self, slot: int) -> SlotState:
        """The state of ``slot`` as llama.cpp writes it: cells, then keys and values of each layer."""
        self._check_slot(slot)
        size = int(llama.llama_state_seq_get_size(self._handle, slot))
        state = np.empty(size, dtype=np.uint8)
        if llama.llama_state_seq_get_data(self._handle, _bytes_of(state), size, slot) != size:
            raise DecodeFailed(f"slot {slot} cannot be saved")
        return state

    def load_slot(self, slot: int, state: SlotState) -> None:
        """Read back what ``save_slot`` wrote. llama.cpp checks shape and types, and then trusts the numbers."""
        self.clear_slot(slot)
        size = len(state)
        if llama.llama_state_seq_set_data(self._handle, _bytes_of(state), size, slot) != size:
            self.clear_slot(slot)
            raise DecodeFailed(f"the state for slot {slot} is refused")

    def _check_slot(self, slot: int) -> None:
        if not 0 <= slot < self.slots:
            raise DecodeFailed(f"slot {slot} is not one of {self.slots}")

    def close(self) -> None:
        """Free the context. The views in ``batch`` must not be used afterwards."""
        if self._handle:
            for i, address in enumerate(self._own_seq_ids):
                self._batch.seq_id[i] = ctypes.cast(address, ctypes.POINTER(ctypes.c_int32))
            llama.llama_batch_free(self._batch)
            llama.llama_free(self._handle)
            self._handle = None


def _bytes_of(state: SlotState) -> Any:
    return state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
