"""The KV cache of the real model in its layouts, and prefixes that left their slots and came back."""

from __future__ import annotations

import asyncio

import pytest

from engine.config import CacheType, FlashAttention, KvLayoutChoice
from engine.engine import Engine
from engine.errors import ModelLoadFailed
from tests.engine.real import LONG_TEXT, answer, asking, real_config

pytestmark = pytest.mark.model

_HEAD = LONG_TEXT[:600]
_WORDS = ("Rome", "Oslo", "Lima", "Kyoto", "Cairo", "Quito")


async def _drive_out(engine: Engine) -> None:
    """Take every slot for prompts that share nothing."""
    requests = [asking(f"{word} " * 15, max_tokens=4, ignore_eos=True) for word in _WORDS]
    await asyncio.gather(*(answer(engine, request) for request in requests))


@pytest.mark.parametrize("attention", ["on", "off"])
@pytest.mark.parametrize("layout", ["partitioned", "unified"])
async def test_a_prefix_restored_from_memory_gives_the_same_text(
    layout: KvLayoutChoice, attention: FlashAttention
) -> None:
    """Without flash attention, values lie otherwise in the cache."""
    engine = await Engine.start(
        real_config(kv_layout=layout, flash_attention=attention, prefix_memory_bytes=64 << 20)
    )
    try:
        assert engine.facts.kv_layout == layout
        cold = await answer(engine, asking(_HEAD, max_tokens=20))
        await _drive_out(engine)
        warm = await answer(engine, asking(_HEAD, max_tokens=20))
    finally:
        await engine.stop()
    assert cold.end.cached_tokens == 0
    assert warm.end.cached_tokens == warm.end.prompt_tokens - 1
    assert warm.text == cold.text


async def test_without_prefix_memory_what_was_driven_out_is_computed_again() -> None:
    engine = await Engine.start(real_config(prefix_memory_bytes=0))
    try:
        await answer(engine, asking(_HEAD, max_tokens=4))
        await _drive_out(engine)
        again = await answer(engine, asking(_HEAD, max_tokens=4))
    finally:
        await engine.stop()
    assert again.end.cached_tokens == 0


async def test_a_pool_serves_one_long_request_and_several_short_ones() -> None:
    """Room for one full context and a bit, and four places: whoever is promised enough ends as it should."""
    config = real_config(kv_layout="auto", kv_budget_bytes=768 * 23_040)
    engine = await Engine.start(config)
    try:
        assert (engine.facts.kv_layout, engine.facts.kv_tokens) == ("unified", 768)
        assert "fewer than 4" in engine.facts.kv_reason
        long = asking(LONG_TEXT[:900], max_tokens=None, ignore_eos=True)
        short = [asking(f"{word} is known for", max_tokens=12, ignore_eos=True) for word in _WORDS]
        first, *others = await asyncio.gather(*(answer(engine, request) for request in (long, *short)))
    finally:
        await engine.stop()
    assert first.end.prompt_tokens + first.end.completion_tokens == engine.facts.context
    assert {one.end.completion_tokens for one in others} == {12}


@pytest.mark.parametrize(("cache_type", "token_bytes"), [("q8_0", 12_240), ("q4_0", 6_480)])
async def test_a_quantised_cache_answers_and_restores(cache_type: CacheType, token_bytes: int) -> None:
    engine = await Engine.start(real_config(cache_type=cache_type, prefix_memory_bytes=64 << 20))
    try:
        cold = await answer(engine, asking(_HEAD, max_tokens=12, ignore_eos=True))
        await _drive_out(engine)
        warm = await answer(engine, asking(_HEAD, max_tokens=12, ignore_eos=True))
    finally:
        await engine.stop()
    assert engine.facts.kv_bytes == engine.facts.kv_tokens * token_bytes
    assert cold.end.completion_tokens == 12
    assert warm.end.cached_tokens == warm.end.prompt_tokens - 1
    assert warm.text == cold.text


async def test_a_quantised_cache_without_flash_attention_names_the_mend() -> None:
    with pytest.raises(ModelLoadFailed, match="flash_attention"):
        await Engine.start(real_config(cache_type="q8_0", flash_attention="off"))
