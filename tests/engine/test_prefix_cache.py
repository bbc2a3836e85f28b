"""The record of what the slots hold, by itself: longest match, and which place a prompt is given."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from engine.backend import Tokens
from engine.prefix_cache import MINIMUM_SHARED, Placement, PrefixCache


def _tokens(*parts: range) -> Tokens:
    return np.array([token for part in parts for token in part], dtype=np.int32)


def _place(cache: PrefixCache, prompt: Tokens) -> Placement:
    return cache.place(prompt, "", len(prompt) + 10)


def _cache(*held: Tokens, slots: int = 4) -> PrefixCache:
    """A cache of idle slots of which the first hold ``held``, the first of them used longest ago."""
    cache = PrefixCache(slots, 256)
    placements = [_place(cache, tokens) for tokens in held]
    for placement, tokens in zip(placements, held, strict=True):
        cache.record(placement.slot, tokens, 0)
        cache.release(placement.slot)
    return cache


_held = st.lists(st.lists(st.integers(0, 2), max_size=40), min_size=3, max_size=3)


@settings(deadline=None)
@given(held=_held, prompt=st.lists(st.integers(0, 2), min_size=1, max_size=60))
def test_the_longest_match_is_found(held: list[list[int]], prompt: list[int]) -> None:
    cache = PrefixCache(3, 64)
    for slot, tokens in enumerate(held):
        # What stood there before is longer, and forgotten: it must not count.
        cache.record(slot, np.array((prompt * 64)[:64], dtype=np.int32), 0)
        cache.forget(slot)
        cache.record(slot, np.array(tokens, dtype=np.int32), 0)
    slot, shared = cache.match(np.array(prompt, dtype=np.int32), "")

    def common(tokens: list[int]) -> int:
        return next(
            (i for i, (a, b) in enumerate(zip(tokens, prompt, strict=False)) if a != b),
            min(len(tokens), len(prompt)),
        )

    assert shared == max(map(common, held)) == common(held[slot])


def test_a_prompt_that_goes_on_takes_the_same_place() -> None:
    cache = _cache(_tokens(range(100)))
    placement = _place(cache, _tokens(range(150)))
    assert (placement.shared, placement.source) == (100, None)


def test_one_token_is_always_left_to_compute() -> None:
    cache = _cache(_tokens(range(100)))
    assert _place(cache, _tokens(range(100))).shared == 99


def test_a_branch_is_copied_and_leaves_the_other_its_cache() -> None:
    cache = _cache(_tokens(range(30), range(100, 150)))
    placement = _place(cache, _tokens(range(30), range(200, 250)))
    assert placement.shared == 30
    assert placement.source is not None
    assert placement.slot != placement.source
    assert cache.match(_tokens(range(30), range(100, 150)), "")[1] == 80


def test_a_branch_takes_the_place_of_the_other_when_it_is_the_only_one_free() -> None:
    cache = _cache(_tokens(range(30), range(100, 150)), slots=1)
    placement = _place(cache, _tokens(range(30), range(200, 250)))
    assert (placement.slot, placement.shared, placement.source) == (0, 30, None)


def test_the_place_that_would_be_overwritten_is_not_copied_into_when_it_holds_the_head_itself() -> None:
    head = range(50)
    cache = _cache(_tokens(head, range(100, 180)), _tokens(head, range(200, 280)), slots=2)
    placement = _place(cache, _tokens(head, range(300, 380)))
    assert placement.source is None
    assert placement.shared == 50


def test_the_longest_unused_place_is_taken_first() -> None:
    cache = _cache(_tokens(range(100, 140)), _tokens(range(40)), slots=2)
    assert _place(cache, _tokens(range(200, 220))).slot == 0


def test_a_busy_slot_is_copied_and_never_taken() -> None:
    cache = PrefixCache(2, 256)
    running = _place(cache, _tokens(range(60)))
    cache.record(running.slot, _tokens(range(60)), 0)
    placement = _place(cache, _tokens(range(80)))
    assert placement.source == running.slot
    assert placement.slot != running.slot
    assert placement.shared == 60
    assert cache.free == 0


def test_a_short_prefix_is_not_worth_a_copy() -> None:
    cache = _cache(_tokens(range(MINIMUM_SHARED - 1), range(100, 150)))
    assert _place(cache, _tokens(range(MINIMUM_SHARED - 1), range(200, 250))).shared == 0


def test_what_is_forgotten_is_shared_with_nobody() -> None:
    cache = _cache(_tokens(range(100)))
    cache.forget(cache.match(_tokens(range(100)), "")[0])
    assert cache.match(_tokens(range(100)), "")[1] == 0
    assert cache.held_tokens == 0


def test_a_pool_forgets_idle_slots_from_the_longest_unused_on_and_no_more_than_it_must() -> None:
    cache = PrefixCache(4, 256, pool_tokens=300)
    for first in (1000, 2000, 3000):
        placement = _place(cache, _tokens(range(first, first + 80)))
        cache.record(placement.slot, _tokens(range(first, first + 80)), 0)
        cache.release(placement.slot)
    placement = cache.place(_tokens(range(50)), "", 100)
    assert len(placement.cleared) == 1
    assert cache.match(_tokens(range(1000, 1080)), "")[1] == 0
    assert cache.match(_tokens(range(2000, 2080)), "")[1] == 80
    assert cache.taken_tokens == 260


def test_a_pool_promises_no_more_than_it_has() -> None:
    cache = PrefixCache(4, 256, pool_tokens=300)
    first = cache.place(_tokens(range(50)), "", 200)
    assert cache.has_room(100)
    assert not cache.has_room(101)
    cache.release(first.slot)
    assert cache.has_room(256)


def test_a_copy_that_the_pool_has_no_room_for_becomes_a_cut_in_place() -> None:
    cache = PrefixCache(4, 256, pool_tokens=256)
    source = cache.place(_tokens(range(100), range(500, 560)), "", 160)
    cache.record(source.slot, _tokens(range(100), range(500, 560)), 0)
    cache.release(source.slot)
    placement = cache.place(_tokens(range(120)), "", 200)
    assert (placement.slot, placement.shared, placement.source) == (source.slot, 100, None)
    assert cache.taken_tokens == 200


@settings(deadline=None)
@given(
    prompts=st.lists(
        st.tuples(st.lists(st.integers(0, 1), min_size=1, max_size=40), st.integers(1, 24)), max_size=30
    ),
    released=st.lists(st.integers(0, 29), max_size=60),
)
def test_promises_and_what_idle_slots_hold_never_exceed_the_pool(
    prompts: list[tuple[list[int], int]], released: list[int]
) -> None:
    cache = PrefixCache(4, 64, pool_tokens=90)
    running: dict[int, int] = {}
    for number, (tokens, more) in enumerate(prompts):
        prompt = np.array(tokens, dtype=np.int32)
        if cache.has_room(len(prompt) + more):
            placement = cache.place(prompt, "", len(prompt) + more)
            cache.record(placement.slot, prompt[placement.shared :], placement.shared)
            running[number] = placement.slot
        assert cache.taken_tokens <= 90
        for done in released[2 * number : 2 * number + 2]:
            if done in running:
                cache.release(running.pop(done))
    assert cache.free == 4 - len(running)


def _gaps(busy: list[int]) -> int:
    return sum(right - left > 1 for left, right in itertools.pairwise(busy))


@pytest.mark.parametrize(("is_saving", "slot"), [(True, 1), (False, 4)])
def test_a_gap_between_streams_is_filled_where_what_it_held_is_saved(*, is_saving: bool, slot: int) -> None:
    cache = PrefixCache(6, 256, is_saving=is_saving)
    for first in range(0, 400, 100):
        held = _tokens(range(first, first + 90))
        cache.record(_place(cache, held).slot, held, 0)
    cache.release(1)
    placed = _place(cache, _tokens(range(500, 520)))
    assert placed.slot == slot
    assert len(placed.saved) == is_saving


def test_slots_of_one_pool_are_no_neighbours() -> None:
    cache = PrefixCache(6, 256, is_saving=True, pool_tokens=1000)
    for first in range(0, 400, 100):
        held = _tokens(range(first, first + 90))
        cache.record(_place(cache, held).slot, held, 0)
    cache.release(1)
    assert _place(cache, _tokens(range(500, 520))).slot == 4


@settings(deadline=None)
@given(ended=st.lists(st.integers(0, 7), max_size=40))
def test_no_other_free_slot_would_leave_fewer_gaps(ended: list[int]) -> None:
    cache, busy = PrefixCache(8, 64, is_saving=True), set[int]()
    for slot in ended:
        if slot in busy:
            cache.release(slot)
            busy.remove(slot)
        free = [each for each in range(8) if each not in busy]
        if free:
            placed = _place(cache, _tokens(range(20))).slot
            assert placed in free
            least = min(_gaps(sorted({*busy, each})) for each in free)
            assert _gaps(sorted({*busy, placed})) == least
            busy.add(placed)


def test_what_another_scope_holds_is_neither_found_nor_followed_and_is_overwritten_all_the_same() -> None:
    cache = PrefixCache(2, 256, is_saving=True)
    theirs = cache.place(_tokens(range(100)), "theirs", 120)
    cache.record(theirs.slot, _tokens(range(100)), 0)
    assert cache.match(_tokens(range(100)), "ours")[1] == 0
    ours = cache.place(_tokens(range(100)), "ours", 120)
    assert (ours.shared, ours.source) == (0, None)
    cache.record(ours.slot, _tokens(range(100)), 0)
    for slot in (theirs.slot, ours.slot):
        cache.release(slot)
    assert cache.match(_tokens(range(100)), "theirs") == (theirs.slot, 100)
    assert cache.match(_tokens(range(100)), "ours") == (ours.slot, 100)
    assert sorted(save.scope for save in cache.worth_keeping()) == ["ours", "theirs"], "each is worth keeping"
    third = cache.place(_tokens(range(500, 600)), "third", 120)
    assert third.slot == theirs.slot
    assert [save.scope for save in third.saved] == ["theirs"], "what ours holds is no substitute for it"
    assert cache.match(_tokens(range(100)), "theirs")[1] == 0


@settings(deadline=None)
@given(
    held=st.lists(st.tuples(st.lists(st.integers(0, 2), max_size=40), st.sampled_from("ab")), max_size=4),
    prompt=st.lists(st.integers(0, 2), min_size=1, max_size=60),
)
def test_other_scopes_change_nothing_of_what_is_found(
    held: list[tuple[list[int], str]], prompt: list[int]
) -> None:
    """With the slots of the other scope empty, as much is shared."""
    found = []
    for scopes in ("ab", "a"):
        cache = PrefixCache(4, 64)
        for tokens, scope in held:
            placement = cache.place(np.array(tokens or [0], dtype=np.int32), scope, 64)
            if scope in scopes:
                cache.record(placement.slot, np.array(tokens, dtype=np.int32), 0)
        found.append(cache.match(np.array(prompt, dtype=np.int32), "a")[1])
    assert found[0] == found[1]


@pytest.mark.parametrize("other", ["", "a\0", "ab", "A", "|a"])
def test_scopes_that_are_alike_are_others(other: str) -> None:
    cache = PrefixCache(2, 256)
    cache.record(cache.place(_tokens(range(100)), "a", 120).slot, _tokens(range(100)), 0)
    assert cache.match(_tokens(range(100)), other)[1] == 0
    assert cache.match(_tokens(range(100)), "a")[1] == 100
