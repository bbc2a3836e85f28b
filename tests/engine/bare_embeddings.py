"""Vectors from llama.cpp as it comes, one text at a time: the truth that the worker's batches are compared with."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from engine.native.library import initialise

_RANK = 4
library: Any = llama_cpp  # ctypes functions have no types


class BareModel:
    """One file, one sequence, one thread."""

    def __init__(self, path: Path, pooling: int = -1, tokens: int = 512) -> None:
        initialise()  # its log goes to ours
        self._model = library.llama_model_load_from_file(
            str(path).encode(), library.llama_model_default_params()
        )
        params = library.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = tokens
        params.n_threads = params.n_threads_batch = 1
        params.embeddings = True
        params.pooling_type = pooling
        self._context = library.llama_init_from_model(self._model, params)
        self._vocabulary = library.llama_model_get_vocab(self._model)

    def tokens(self, text: str, *, add_special: bool = True) -> list[int]:
        raw, ids = text.encode(), (ctypes.c_int32 * 600)()
        count = library.llama_tokenize(self._vocabulary, raw, len(raw), ids, 600, add_special, False)
        return list(ids[:count])

    def raw(self, tokens: list[int]) -> npt.NDArray[np.float32]:
        """What llama.cpp gives for ``tokens``: a vector, or a score as log-odds."""
        if memory := library.llama_get_memory(self._context):
            library.llama_memory_clear(memory, True)
        batch = library.llama_batch_init(len(tokens), 0, 1)
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index] = token, index
            batch.n_seq_id[index], batch.seq_id[index][0], batch.logits[index] = 1, 0, 1
        batch.n_tokens = len(tokens)
        assert library.llama_decode(self._context, batch) == 0
        library.llama_batch_free(batch)
        is_scoring = library.llama_pooling_type(self._context) == _RANK
        width = 1 if is_scoring else library.llama_model_n_embd_out(self._model)
        pointer = library.llama_get_embeddings_seq(self._context, 0)
        return np.ctypeslib.as_array(pointer, shape=(width,)).copy()

    def unit(self, tokens: list[int]) -> npt.NDArray[np.float64]:
        """The same as a vector of length 1."""
        vector = self.raw(tokens).astype(np.float64)
        unit: npt.NDArray[np.float64] = vector / np.linalg.norm(vector)
        return unit

    def close(self) -> None:
        library.llama_free(self._context)
        library.llama_model_free(self._model)
