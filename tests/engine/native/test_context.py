"""The KV cache of the real model by itself: which ways to the same tokens give the same logits, and which do not.

Measured with SmolLM2-135M Q4_1 on x86-64 with AVX-512, with one thread and with two:

- Bit for bit the same: the same batch again, in another slot, after a copy and a cut, and decoding one token alone
  or in company of up to seven others, or beside a prompt that is being read.
- Not the same: a prompt read in chunks of which the last is short (16 tokens or fewer) against the whole prompt at
  once, or against chunks of 64 and more. llama.cpp computes few rows of one sequence with other kernels than many;
  logits then differ by up to 0.6, and a greedy choice between near-equal tokens can fall the other way.

So company alone never changes a greedy answer here; how much of a prompt the cache spared can.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from engine.backend import DecodeFailed
from engine.native.context import NativeContext
from engine.native.model import NativeModel
from tests.engine.real import LONG_TEXT

pytestmark = pytest.mark.model

SLOTS, SLOT_TOKENS = 8, 256
Logits = npt.NDArray[np.float32]
Run = tuple[int, int, npt.NDArray[np.int32]]
"""Slot, first position, tokens. The last token of each run wants logits."""


@pytest.fixture(scope="module")
def shared_context(model: NativeModel) -> Iterator[NativeContext]:
    context = NativeContext(model, slots=SLOTS, slot_tokens=SLOT_TOKENS, batch_tokens=256, threads=1)
    yield context
    context.close()


@pytest.fixture
def context(shared_context: NativeContext) -> NativeContext:
    for slot in range(SLOTS):
        shared_context.clear_slot(slot)
    return shared_context


@pytest.fixture(scope="module")
def tokens(model: NativeModel) -> npt.NDArray[np.int32]:
    return model.vocabulary.tokenize(LONG_TEXT, add_special=True, parse_special=False)


def _compute(context: NativeContext, *runs: Run) -> Logits:
    at = 0
    for slot, position, tokens in runs:
        end = at + len(tokens)
        context.batch.token[at:end] = tokens
        context.batch.position[at:end] = np.arange(position, position + len(tokens))
        context.batch.slot[at:end] = slot
        context.batch.wants_logits[at:end] = 0
        context.batch.wants_logits[end - 1] = 1
        at = end
    return context.decode(at, len(runs)).copy()


def _are_same(one: Logits, other: Logits) -> bool:
    """Bit for bit where that was measured; elsewhere as near as other kernels come, and no foreign token does."""
    if platform.machine() == "x86_64":
        return np.array_equal(one, other)
    return float(np.abs(one - other).max()) < 1.0


def test_the_same_again_and_in_another_slot(context: NativeContext, tokens: npt.NDArray[np.int32]) -> None:
    first = _compute(context, (0, 0, tokens[:60]))
    context.clear_slot(0)
    assert _are_same(first, _compute(context, (0, 0, tokens[:60])))
    assert _are_same(first, _compute(context, (5, 0, tokens[:60])))


@pytest.mark.parametrize("tail", [1, 20])
def test_a_copy_that_is_cut_is_what_was_copied(
    context: NativeContext, tokens: npt.NDArray[np.int32], tail: int
) -> None:
    head, rest = tokens[:80], tokens[80 : 80 + tail]
    _compute(context, (0, 0, head))
    in_place = _compute(context, (0, 80, rest))
    _compute(context, (0, 80 + tail, tokens[5:30]))
    context.copy_slot(0, 3)
    context.cut_slot(3, 80)
    assert _are_same(in_place, _compute(context, (3, 80, rest)))
    # The source still holds all of its own, and both go on apart.
    both = _compute(context, (0, 105 + tail, tokens[:1]), (3, 80 + tail, tokens[:1]))
    assert not np.array_equal(both[0], both[1])


@pytest.mark.parametrize("width", [2, 4, 8])
def test_company_does_not_change_a_streams_logits(
    context: NativeContext, tokens: npt.NDArray[np.int32], width: int
) -> None:
    for slot in range(width):
        _compute(context, (slot, 0, tokens[slot : 50 + 2 * slot]))
    alone = _compute(context, (0, 50, tokens[50:51]))
    context.cut_slot(0, 50)
    company = _compute(context, *((slot, 50 + slot, tokens[50:51]) for slot in range(width)))
    assert _are_same(alone[0], company[0])


def test_a_prompt_that_is_read_does_not_change_a_streams_logits(
    context: NativeContext, tokens: npt.NDArray[np.int32]
) -> None:
    _compute(context, (0, 0, tokens[:50]))
    alone = _compute(context, (0, 50, tokens[50:51]))
    context.cut_slot(0, 50)
    assert _are_same(alone[0], _compute(context, (0, 50, tokens[50:51]), (1, 0, tokens[7:100]))[0])


def test_long_chunks_of_a_prompt_give_what_the_whole_gives(
    context: NativeContext, tokens: npt.NDArray[np.int32]
) -> None:
    whole = _compute(context, (0, 0, tokens[:160]))
    _compute(context, (1, 0, tokens[:80]))
    assert _are_same(whole, _compute(context, (1, 80, tokens[80:160])))


def test_a_short_last_chunk_gives_almost_what_the_whole_gives(
    context: NativeContext, tokens: npt.NDArray[np.int32]
) -> None:
    whole = _compute(context, (0, 0, tokens[:100]))
    for tail in (1, 8, 16):
        _compute(context, (1, 0, tokens[: 100 - tail]))
        split = _compute(context, (1, 100 - tail, tokens[100 - tail : 100]))
        assert float(np.abs(whole - split).max()) < 1.5, "near, though seldom equal: see the docstring"
        context.clear_slot(1)


@pytest.mark.parametrize(
    ("token", "position", "slot"),
    [(-1, 0, 0), (49152, 0, 0), (1, -1, 0), (1, SLOT_TOKENS, 0), (1, 0, -1), (1, 0, SLOTS)],
    ids=["token<0", "token", "position<0", "position", "slot<0", "slot"],
)
def test_a_wrong_batch_is_refused_and_the_context_lives(
    context: NativeContext, tokens: npt.NDArray[np.int32], token: int, position: int, slot: int
) -> None:
    with pytest.raises(DecodeFailed):
        _compute(context, (slot, position, np.array([token], dtype=np.int32)))
    assert np.isfinite(_compute(context, (0, 0, tokens[:3]))).all()


def test_a_gap_between_positions_is_refused(context: NativeContext, tokens: npt.NDArray[np.int32]) -> None:
    _compute(context, (0, 0, tokens[:3]))
    for position in (2, 4):
        with pytest.raises(DecodeFailed):
            _compute(context, (0, position, tokens[:1]))
    assert np.isfinite(_compute(context, (0, 3, tokens[:1]))).all()


@pytest.mark.parametrize(("count", "outputs"), [(0, 0), (-1, 0), (257, 1), (1, 10_000)])
def test_a_batch_of_impossible_size_is_refused(context: NativeContext, count: int, outputs: int) -> None:
    with pytest.raises(DecodeFailed):
        context.decode(count, outputs)


@pytest.mark.parametrize("slot", [-1, SLOTS, 10_000])
def test_a_slot_that_is_none_is_refused(context: NativeContext, slot: int) -> None:
    with pytest.raises(DecodeFailed):
        context.clear_slot(slot)
    with pytest.raises(DecodeFailed):
        context.cut_slot(slot, 0)
    with pytest.raises(DecodeFailed):
        context.copy_slot(slot, 0)
    with pytest.raises(DecodeFailed):
        context.copy_slot(0, slot)


def test_a_context_can_be_closed_and_made_again(model: NativeModel, tokens: npt.NDArray[np.int32]) -> None:
    for _ in range(3):
        context = NativeContext(model, slots=1, slot_tokens=256, batch_tokens=64, threads=1)
        assert np.isfinite(_compute(context, (0, 0, tokens[:2]))).all()
        context.close()
        context.close()
