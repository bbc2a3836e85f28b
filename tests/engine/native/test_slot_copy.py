"""Copies of slots with buffers of their own: only what is used is copied (scripts/copy_used.h), and all of that."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from engine.config import CacheType, FlashAttention
from engine.native.context import NativeContext
from engine.native.model import NativeModel
from engine.reserve import anonymous_bytes
from tests.engine.real import LONG_TEXT

pytestmark = pytest.mark.model

_MIB = 1 << 20
_LENGTH = 96


@pytest.fixture(scope="module")
def tokens(model: NativeModel) -> npt.NDArray[np.int32]:
    return model.vocabulary.tokenize(LONG_TEXT, add_special=True, parse_special=False)[:_LENGTH]


# Values lie transposed without flash attention, and in blocks of 32 numbers in a cache of another type.
@pytest.fixture(scope="module", params=[("off", "f16"), ("on", "f16"), ("on", "q8_0")])
def context(request: pytest.FixtureRequest, model: NativeModel) -> Iterator[NativeContext]:
    flash: FlashAttention
    cache_type: CacheType
    flash, cache_type = request.param
    context = NativeContext(
        model,
        slots=4,
        slot_tokens=512,
        batch_tokens=256,
        threads=2,
        flash_attention=flash,
        cache_type=cache_type,
    )
    yield context
    context.close()


def _read(context: NativeContext, slot: int, tokens: npt.NDArray[np.int32]) -> None:
    context.clear_slot(slot)
    _compute(context, slot, 0, tokens)


def _compute(
    context: NativeContext, slot: int, start: int, tokens: npt.NDArray[np.int32]
) -> npt.NDArray[np.float32]:
    batch, count = context.batch, len(tokens)
    batch.token[:count] = tokens
    batch.position[:count] = np.arange(start, start + count)
    batch.slot[:count] = slot
    batch.wants_logits[:count] = 0
    batch.wants_logits[count - 1] = 1
    logits: npt.NDArray[np.float32] = context.decode(count, 1)[0].copy()
    return logits


def _after(context: NativeContext, slot: int, length: int, tokens: npt.NDArray[np.int32]) -> bytes:
    """The logits of ``slot`` behind its first ``length`` tokens."""
    context.cut_slot(slot, length)
    return _compute(context, slot, length, tokens[length : length + 1]).tobytes()


def test_a_copy_computes_as_its_source(context: NativeContext, tokens: npt.NDArray[np.int32]) -> None:
    _read(context, 0, tokens)
    # What stood there before, and more of it, must not show.
    _read(context, 3, tokens[::-1])
    context.copy_slot(0, 3)
    whole = _after(context, 3, _LENGTH - 1, tokens)
    context.copy_slot(0, 3)
    context.cut_slot(3, 40)
    cut = _after(context, 3, 40, tokens)
    assert whole == _after(context, 0, _LENGTH - 1, tokens)
    assert cut == _after(context, 0, 40, tokens)


def test_a_copy_of_a_copy_that_was_cut_since_is_whole(
    context: NativeContext, tokens: npt.NDArray[np.int32]
) -> None:
    for slot, text in enumerate((tokens, tokens[::-1], tokens[::-1])):
        _read(context, slot, text)
    # All before one step: llama.cpp copies when it computes next.
    context.copy_slot(0, 1)
    context.copy_slot(1, 2)
    context.cut_slot(1, 20)
    context.cut_slot(2, 80)
    second, first = _after(context, 2, 80, tokens), _after(context, 1, 20, tokens)
    assert second == _after(context, 0, 80, tokens)
    assert first == _after(context, 0, 20, tokens)


@pytest.mark.skipif(sys.platform != "linux", reason="nobody tells elsewhere what a process holds")
@pytest.mark.parametrize("flash", ["off", "on"])
def test_a_slot_takes_memory_for_what_it_holds(
    model: NativeModel, tokens: npt.NDArray[np.int32], flash: FlashAttention
) -> None:
    _compute_once(model, tokens, flash)
    before = anonymous_bytes()
    context = NativeContext(
        model, slots=4, slot_tokens=16384, batch_tokens=256, threads=2, flash_attention=flash
    )
    try:
        promised = 4 * 16384 * model.kv_bytes_per_token("f16")
        made = anonymous_bytes() - before
        _compute(context, 0, 0, tokens)
        computed = anonymous_bytes() - before
        context.copy_slot(0, 1)
        _after(context, 1, 50, tokens)
        copied = anonymous_bytes() - before
    finally:
        context.close()
    assert promised > 1400 * _MIB
    # The graph's own buffers are among it.
    assert made < 100 * _MIB
    assert computed - made < 200 * _MIB
    assert copied - computed < 50 * _MIB


def _compute_once(model: NativeModel, tokens: npt.NDArray[np.int32], flash: FlashAttention) -> None:
    """What the library takes with its first context, whatever its size."""
    context = NativeContext(
        model, slots=4, slot_tokens=512, batch_tokens=256, threads=2, flash_attention=flash
    )
    _compute(context, 0, 0, tokens)
    context.close()
