"""The number formats of the KV cache: what a token takes in each, and what each asks for.

Block sizes are those of ggml-common.h: q8_0 holds 32 numbers in 34 bytes, q4_0 in 18.
"""

from __future__ import annotations

from engine.config import CacheType, FlashAttention
from engine.errors import ModelLoadFailed

_BLOCKS: dict[CacheType, tuple[int, int]] = {"f16": (1, 2), "q8_0": (32, 34), "q4_0": (32, 18)}


def row_bytes(cache_type: CacheType, numbers: int) -> int:
    """Bytes of ``numbers`` keys or values of one token in one layer."""
    block, size = _BLOCKS[cache_type]
    return -(-numbers // block) * size


def check_cache_type(
    cache_type: CacheType, flash_attention: FlashAttention, *, key_width: int, value_width: int
) -> None:
    """Raise ModelLoadFailed for what llama.cpp refuses without a word of why (llama_init_from_model).

    Widths are numbers per attention head.
    """
    block, _ = _BLOCKS[cache_type]
    if block == 1:
        return
    if flash_attention == "off":
        raise ModelLoadFailed(
            f"a KV cache of type {cache_type} needs flash attention; "
            "set `flash_attention` to auto, or `cache_type` to f16"
        )
    if key_width % block or value_width % block:
        raise ModelLoadFailed(
            f"this model's attention heads are {key_width} and {value_width} numbers wide, and a KV cache of type "
            f"{cache_type} holds them in blocks of {block}; set `cache_type` to f16"
        )
