"""A llama.cpp context: the KV cache in slots, the batch memory, and the one call that computes.

Owned by the worker's engine thread; no other thread may touch it.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import llama_cpp as llama
import numpy as np
import numpy.typing as npt

from engine.adapter import Adapter
from engine.adapter_set import AdapterSet
from engine.backend import DecodeFailed, SlotState
from engine.config import CacheType, FlashAttention
from engine.errors import InsufficientMemory
from engine.native import library
from engine.native.adapter import NativeAdapter
from engine.native.batch_memory import BatchMemory
from engine.native.context_sizes import check_sizes
from engine.native.model import NativeModel
from engine.native.state_memory import state_memory

_MORE_ROWS = 64
"""Rows of logits beyond one per slot, for drafted tokens, and for prompts that are scored. Of a vocabulary of 50,000
they take 13 MB, and chunks of 64 tokens are read about as fast as longer ones."""
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
        adapters: Sequence[NativeAdapter] = (),
    ) -> None:
        """``adapters`` can be set as the places that they have here."""
        check_sizes(
            sequences=slots, tokens=pool_tokens or slots * slot_tokens, batch=batch_tokens, threads=threads
        )
        self._model = model
        self._adapters = dict(enumerate(adapters))
        params = llama.llama_context_default_params()
        params.n_ctx = pool_tokens or slots * slot_tokens
        params.n_seq_max = slots
        params.n_batch = params.n_ubatch = batch_tokens
        self.output_rows = slots + _MORE_ROWS
        params.n_outputs_max = self.output_rows
        params.n_threads = params.n_threads_batch = threads
        # One buffer per sequence is some 20 % faster to decode than one that all share; see memory_plan.
        params.kv_unified = pool_tokens is not None
        params.type_k = params.type_v = _CACHE_TYPES[cache_type]
        params.flash_attn_type = _FLASH_ATTENTION[flash_attention]
        params.no_perf = True
        self._pointer: Any = llama.llama_init_from_model(model.handle, params)
        if not self._pointer:
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
        self.is_one_pass = pool_tokens is not None or library.joins_passes(self._memory)
        self.vocabulary_size = model.vocabulary.size
        self.shares_prefixes = not model.is_recurrent
        self._memory_of_batch = BatchMemory(self.batch_tokens)
        self._batch = self._memory_of_batch.raw
        self.batch = self._memory_of_batch.batch

    @property
    def _handle(self) -> Any:
        """Raises DecodeFailed once the context is freed, or its model."""
        self._check_open()
        return self._pointer

    def _check_open(self) -> None:
        if not self._pointer or not self._model.is_open:
            raise DecodeFailed("a context is used after it was freed")

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
        # Of fewer logits than are read, the last would be somebody else's memory; of more, too many end the process.
        if int(np.count_nonzero(batch.wants_logits[:count])) != outputs:
            raise DecodeFailed(f"the batch does not want {outputs} rows of logits")
        self._batch.n_tokens = count
        status = llama.llama_decode(self._handle, self._batch)
        if status != 0:
            raise DecodeFailed(_FATAL.get(status, f"llama_decode says {status}"))
        return self._read_logits(outputs)

    def _read_logits(self, outputs: int) -> npt.NDArray[np.float32]:
        if outputs == 0:
            return np.empty((0, self.vocabulary_size), dtype=np.float32)
        pointer = llama.llama_get_logits(self._handle)
        if not pointer:
            raise DecodeFailed("llama.cpp has no logits for the batch")
        return np.ctypeslib.as_array(pointer, shape=(outputs, self.vocabulary_size))

    def set_adapters(self, adapters: AdapterSet) -> None:
        """Compute with ``adapters`` from now on; see ``engine.backend.Backend.set_adapters``."""
        count = len(adapters.scales)
        for place, scale in adapters.scales:
            if place not in self._adapters or not math.isfinite(scale):
                raise DecodeFailed(f"adapter {place} with scale {scale} is none of {len(self._adapters)}")
        handles = (ctypes.POINTER(ctypes.c_void_p) * count)(
            *(self._adapters[place].handle for place, _ in adapters.scales)
        )
        scales = (ctypes.c_float * count)(*(scale for _, scale in adapters.scales))
        if llama.llama_set_adapters_lora(self._handle, handles, count, scales) != 0:
            raise DecodeFailed("llama.cpp does not take the adapters")

    def load_adapter(self, place: int, adapter: Adapter) -> None:
        """See ``engine.backend.Backend.load_adapter``."""
        self._adapters[place] = NativeAdapter(self._model, adapter)

    def free_adapter(self, place: int) -> None:
        self._adapters.pop(place).close()
        library.give_memory_back()

    def copy_slot(self, source: int, target: int) -> None:
        """Make ``target`` hold what ``source`` holds. Whole: llama.cpp aborts on a partial copy across partitions."""
        self._check_slot(source)
        if source == target:
            return
        self.clear_slot(target)
        llama.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def multiply(self, slot: int) -> None:
        """Have ``slot``, alone in a pool, hold its tokens once for each slot: as dear to read as so many others.

        For measuring alone: positions repeat, which llama.cpp does not mind, and what it computes means nothing.
        """
        if self.pool_tokens is None:
            raise DecodeFailed("slots with buffers of their own cannot be added to one another")
        state = self.save_slot(slot)
        for other in range(self.slots):
            if other != slot:
                self.load_slot(other, state)
                llama.llama_memory_seq_cp(self._memory, other, slot, -1, -1)

    def cut_slot(self, slot: int, length: int) -> None:
        """Forget all but the first ``length`` tokens of ``slot``."""
        self._check_slot(slot)
        if not 0 <= length <= self.slot_tokens:
            raise DecodeFailed(f"a slot of {self.slot_tokens} tokens cannot be cut to {length}")
        if not llama.llama_memory_seq_rm(self._memory, slot, length, -1):
            raise DecodeFailed(f"this model's memory cannot be cut to {length} tokens")

    def clear_slot(self, slot: int) -> None:
        self._check_slot(slot)
        llama.llama_memory_seq_rm(self._memory, slot, -1, -1)

    def save_slot(self, slot: int) -> SlotState:
        """The state of ``slot`` as llama.cpp writes it: cells, then keys and values of each layer.

        Raises DecodeFailed, and MemoryError.
        """
        self._check_slot(slot)
        size = int(llama.llama_state_seq_get_size(self._handle, slot))
        state = state_memory(size)
        if llama.llama_state_seq_get_data(self._handle, _bytes_of(state), size, slot) != size:
            raise DecodeFailed(f"slot {slot} cannot be saved")
        return state

    def load_slot(self, slot: int, state: SlotState) -> None:
        """Read back what ``save_slot`` wrote. llama.cpp checks shape and types, and then trusts the numbers."""
        self.clear_slot(slot)
        # Of an empty one llama.cpp has read all there is, and so says that it is well.
        if state.dtype != np.uint8 or state.ndim != 1 or not state.size or not state.flags.c_contiguous:
            raise DecodeFailed("a state is bytes in a row")
        size = len(state)
        if llama.llama_state_seq_set_data(self._handle, _bytes_of(state), size, slot) != size:
            self.clear_slot(slot)
            raise DecodeFailed(f"the state for slot {slot} is refused")

    def _check_slot(self, slot: int) -> None:
        """Before every call about a slot."""
        self._check_open()
        if not 0 <= slot < self.slots:
            raise DecodeFailed(f"slot {slot} is not one of {self.slots}")

    def close(self) -> None:
        """Free the context. The views in ``batch`` must not be used afterwards."""
        if self._pointer:
            self._memory_of_batch.free()
            llama.llama_free(self._pointer)
            self._pointer = None


def _bytes_of(state: SlotState) -> Any:
    return state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
