"""What llama.cpp as it comes writes behind a prompt: one sequence, one thread, the likeliest token each time."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from engine.native.library import initialise

library: Any = llama_cpp  # ctypes functions have no types


class BareText:
    """One file, one sequence, one thread."""

    def __init__(self, path: Path, context: int = 256) -> None:
        initialise()  # its log goes to ours
        self._model = library.llama_model_load_from_file(
            str(path).encode(), library.llama_model_default_params()
        )
        params = library.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = context
        params.n_threads = params.n_threads_batch = 1
        self._context = library.llama_init_from_model(self._model, params)
        self._vocabulary = library.llama_model_get_vocab(self._model)
        self._size = library.llama_vocab_n_tokens(self._vocabulary)
        self._ends = [
            token for token in range(self._size) if library.llama_vocab_is_eog(self._vocabulary, token)
        ]

    def behind(self, prompt: list[int], count: int) -> tuple[bytes, float]:
        """The bytes of ``count`` tokens, none of which ends the text; and how clear the closest choice was.

        That is by how much the likeliest token led the second. Sums that are computed in another order differ in
        their last bits, and where the lead is small they choose another.
        """
        library.llama_memory_clear(library.llama_get_memory(self._context), True)
        written, lead, tokens = b"", float("inf"), prompt
        for _ in range(count):
            array = (ctypes.c_int32 * len(tokens))(*tokens)
            batch = library.llama_batch_get_one(array, len(tokens))
            assert library.llama_decode(self._context, batch) == 0
            pointer = library.llama_get_logits_ith(self._context, -1)
            logits = np.ctypeslib.as_array(pointer, shape=(self._size,))
            logits[self._ends] = -np.inf
            second, first = np.sort(logits)[-2:].tolist()
            lead = min(lead, first - second)
            tokens = [int(logits.argmax())]
            written += self._piece(tokens[0])
        return written, lead

    def _piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        length = library.llama_token_to_piece(self._vocabulary, token, buffer, 64, 0, False)
        return buffer.raw[: max(0, length)]

    def close(self) -> None:
        library.llama_free(self._context)
        library.llama_model_free(self._model)
