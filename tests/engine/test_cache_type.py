"""What a token takes in each format, and what is refused before llama.cpp does."""

from __future__ import annotations

import pytest

from engine.cache_type import check_cache_type, row_bytes
from engine.config import CacheType
from engine.errors import ModelLoadFailed


@pytest.mark.parametrize(("cache_type", "total"), [("f16", 23_040), ("q8_0", 12_240), ("q4_0", 6_480)])
def test_bytes_of_a_token_are_those_that_llama_cpp_allocates(cache_type: CacheType, total: int) -> None:
    """SmolLM2-135M: 30 layers of 3 heads of 64. llama.cpp logs 45.00, 23.91 and 12.66 MiB for 2048 tokens."""
    assert 30 * 2 * row_bytes(cache_type, 3 * 64) == total


def test_a_quantised_cache_without_flash_attention_is_refused_with_the_mend() -> None:
    with pytest.raises(ModelLoadFailed, match="set `flash_attention` to auto"):
        check_cache_type("q8_0", "off", key_width=64, value_width=64)
    check_cache_type("f16", "off", key_width=64, value_width=64)
    check_cache_type("q4_0", "auto", key_width=64, value_width=64)


def test_heads_that_make_no_whole_blocks_are_refused_with_the_mend() -> None:
    with pytest.raises(ModelLoadFailed, match=r"80 and 64 .* blocks of 32; set `cache_type` to f16"):
        check_cache_type("q4_0", "on", key_width=80, value_width=64)
    check_cache_type("f16", "on", key_width=80, value_width=80)
