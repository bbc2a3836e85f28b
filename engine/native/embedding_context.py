"""A llama.cpp context that makes vectors: one batch in, one pooled vector for each text in it out.

Owned by the worker's engine thread; no other thread may touch it.
"""

from __future__ import annotations

from typing import Any

import llama_cpp as llama
import numpy as np
import numpy.typing as npt

from engine.backend import DecodeFailed
from engine.config import FlashAttention, Pooling
from engine.errors import InsufficientMemory
from engine.native.batch_memory import BatchMemory
from engine.native.context_sizes import MOST_SEQUENCES, check_sizes
from engine.native.model import NativeModel

_POOLINGS: dict[Pooling, int] = {"mean": 1, "cls": 2, "last": 3, "rank": 4}  # enum llama_pooling_type
_FLASH_ATTENTION: dict[FlashAttention, int] = {"auto": -1, "off": 0, "on": 1}  # enum llama_flash_attn_type


class NativeEmbeddingContext:
    """Implements ``engine.embedding_core.EmbeddingBackend`` over llama.cpp.

    A batch is computed in one piece (``n_ubatch`` is ``n_batch``): llama.cpp aborts on a larger one without
    causality, and pools wrongly over a text that it had to part.
    """

    def __init__(
        self,
        model: NativeModel,
        *,
        batch_tokens: int,
        sequences: int,
        threads: int,
        pooling: Pooling,
        flash_attention: FlashAttention = "auto",
    ) -> None:
        sequences = min(sequences, MOST_SEQUENCES)
        check_sizes(sequences=sequences, tokens=batch_tokens, batch=batch_tokens, threads=threads)
        self._model = model
        params = llama.llama_context_default_params()
        # llama.cpp tries its graph out with a batch that it rounds up to whole texts, and aborts where that is past
        # what it pools: so texts must divide tokens.
        batch_tokens = -(-batch_tokens // MOST_SEQUENCES) * MOST_SEQUENCES
        params.n_ctx = params.n_batch = params.n_ubatch = batch_tokens
        params.n_seq_max = 1 << (sequences - 1).bit_length()
        params.n_threads = params.n_threads_batch = threads
        params.embeddings = True
        params.pooling_type = _POOLINGS[pooling]
        # Texts of any lengths share the batch, and where the model has a KV cache its cells too.
        params.kv_unified = True
        params.flash_attn_type = _FLASH_ATTENTION[flash_attention]
        params.no_perf = True
        self._pointer: Any = llama.llama_init_from_model(model.handle, params)
        if not self._pointer:
            raise InsufficientMemory(
                f"{model.path.name} does not fit in memory with inputs of {batch_tokens} tokens; lower `context`"
            )
        # Encoders have none.
        self._memory = llama.llama_get_memory(self._handle)
        self.batch_tokens = min(
            batch_tokens, int(llama.llama_n_batch(self._handle)), int(llama.llama_n_ubatch(self._handle))
        )
        self.batch_sequences = sequences
        self.is_scoring = pooling == "rank"
        self._scores = model.scores
        self.width = 1 if self.is_scoring else model.embedding_width
        self.vocabulary_size = model.vocabulary.size
        # A position past the table of an encoder's positions is read from foreign memory.
        self.input_tokens = min(self.batch_tokens, model.context_trained or self.batch_tokens)
        self._memory_of_batch = BatchMemory(self.batch_tokens)
        self.batch = self._memory_of_batch.batch

    @property
    def _handle(self) -> Any:
        """Raises DecodeFailed once the context is freed, or its model."""
        if not self._pointer or not self._model.is_open:
            raise DecodeFailed("a context is used after it was freed")
        return self._pointer

    def embed(self, count: int, sequences: int) -> npt.NDArray[np.float32]:
        """See ``engine.embedding_core.EmbeddingBackend.embed``."""
        handle = self._handle
        self._check(count, sequences)
        self._memory_of_batch.raw.n_tokens = count
        if self._memory:
            llama.llama_memory_clear(self._memory, True)
        # Without a memory this encodes.
        if (status := llama.llama_decode(handle, self._memory_of_batch.raw)) != 0:
            raise DecodeFailed(f"llama_decode says {status}")
        return self._read(sequences)

    def _check(self, count: int, sequences: int) -> None:
        if not 0 < count <= self.batch_tokens or not 0 < sequences <= self.batch_sequences:
            raise DecodeFailed(f"a batch of {count} tokens of {sequences} texts is past the context's limits")
        batch = self.batch
        token, position, slot = batch.token[:count], batch.position[:count], batch.slot[:count]
        if (
            int(token.min()) < 0
            or int(token.max()) >= self.vocabulary_size
            or int(slot.min()) < 0
            or int(slot.max()) >= sequences
            or int(position.min()) < 0
            or int(position.max()) >= self.input_tokens
            # The last token of each text is what its vector may be made of: without one there is none.
            or len(np.unique(slot)) != sequences
        ):
            raise DecodeFailed("the batch holds a token, slot or position out of range")
        # Pooling reads every token; llama.cpp would set these itself, with a warning for each step.
        batch.wants_logits[:count] = 1

    def _read(self, sequences: int) -> npt.NDArray[np.float32]:
        rows = np.empty((sequences, self.width), dtype=np.float32)
        for slot in range(sequences):
            pointer = llama.llama_get_embeddings_seq(self._handle, slot)
            if not pointer:
                raise DecodeFailed("llama.cpp has no vector for a text of the batch")
            rows[slot] = np.ctypeslib.as_array(pointer, shape=(self.width,))
        # A head of one number gives its log-odds; one of several has had its softmax, the first is relevance.
        if self.is_scoring and self._scores == 1:
            # The sigmoid, in a form that does not overflow.
            rows = 0.5 * (1 + np.tanh(0.5 * rows))
        return rows

    def close(self) -> None:
        """Free the context. The views in ``batch`` must not be used afterwards."""
        if self._pointer:
            self._memory_of_batch.free()
            llama.llama_free(self._pointer)
            self._pointer = None
