"""llama.cpp's quantiser. It aborts on damaged headers, so only a process that serves nobody may call it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import llama_cpp as llama
from llama_cpp import _ggml

from engine.importance_matrix import Importance
from engine.native import library
from engine.quantization_type import QuantizationType
from engine.quantizer_log import QuantizerLog

_ERROR = 4


def quantize(
    source: str,
    target: str,
    to: QuantizationType,
    *,
    threads: int,
    allow_requantize: bool,
    is_dry: bool,
    importance: Importance | None = None,
    on_tensor: Callable[[QuantizerLog], None] = lambda log: None,
) -> tuple[bool, QuantizerLog]:
    """Write ``source``, all its parts, as one file of type ``to`` at ``target``; where ``is_dry``, only plan it.

    Returns whether it succeeded, and what the log told. ``on_tensor`` is called after each tensor. What stands at
    ``target`` is overwritten, and of no use after a failure.
    """
    log = QuantizerLog()

    def hear(level: int, text: bytes | None, _user_data: ctypes.c_void_p) -> None:
        if text and log.read(text.decode("utf-8", "replace"), is_error=level == _ERROR):
            on_tensor(log)

    library.initialise()
    # Kept by its name until the log is another's again: llama.cpp crashes on a collected callback.
    callback = llama.llama_log_callback(hear)
    llama.llama_log_set(callback, ctypes.c_void_p(0))
    try:
        params = llama.llama_model_quantize_default_params()
        params.nthread = threads
        params.ftype = to.number
        params.allow_requantize = allow_requantize
        params.dry_run = is_dry
        if importance:
            # Also where nothing is written: with it, some types are mixed otherwise.
            params.imatrix = _entries(importance)
        status = llama.llama_model_quantize(source.encode(), target.encode(), params)
    finally:
        library.restore_log()
    return status == 0, log


def _entries(importance: Importance) -> Any:
    """As llama.cpp takes them: an array that ends with an entry without a name. It leads into ``importance``."""
    entries = (llama.llama_model_imatrix_data * (len(importance) + 1))()
    for entry, (name, weights) in zip(entries, importance.items(), strict=False):
        entry.name = name.encode()
        entry.data = weights.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entry.size = weights.size
    return entries


def tensor_blocks() -> dict[str, tuple[int, int]]:
    """Of every tensor type by ggml's name: how many numbers a block holds, and its bytes."""
    ggml: Any = _ggml.libggml
    ggml.ggml_type_name.restype = ctypes.c_char_p
    ggml.ggml_blck_size.restype = ctypes.c_int64
    ggml.ggml_type_size.restype = ctypes.c_size_t
    # "No type of its own" is said by the number behind the last type; reading beyond that is reading anywhere.
    count = int(llama.llama_model_quantize_default_params().output_tensor_type)
    return {
        ggml.ggml_type_name(kind).decode(): (int(ggml.ggml_blck_size(kind)), int(ggml.ggml_type_size(kind)))
        for kind in range(count)
        if ggml.ggml_blck_size(kind)
    }
