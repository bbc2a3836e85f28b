"""Saved prefixes: found again, bounded, and restored where that pays."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from engine.backend import SlotState, Tokens
from engine.prefix_store import PrefixStore
from tests.engine.answer_alone import Ask
from tests.engine.bench import Bench

_STRANGERS = [(seed, *range(100, 199)) for seed in range(8)]


def _tokens(*parts: range) -> Tokens:
    return np.array([token for part in parts for token in part], dtype=np.int32)


def _state(tokens: Tokens, token_bytes: int = 4) -> SlotState:
    return np.zeros(len(tokens) * token_bytes, dtype=np.uint8)


def test_the_longest_is_found() -> None:
    store = PrefixStore(10_000)
    for end in (300, 400):
        tokens = _tokens(range(end // 10), range(end, end + 50))
        store.put(tokens, "", _state(tokens))
    found = store.match(_tokens(range(60)), "")
    assert found is not None
    assert found.shared(_tokens(range(60))) == 40
    assert store.match(_tokens(range(500, 600)), "") is None


def test_what_goes_on_takes_the_place_of_its_beginning_and_a_beginning_is_not_saved_again() -> None:
    store = PrefixStore(10_000)
    for end in (100, 200):
        store.put(_tokens(range(end)), "", _state(_tokens(range(end))))
    assert len(store) == 1
    assert not store.prepare(_tokens(range(150)), "")
    assert store.prepare(_tokens(range(201)), "")


def test_the_longest_unused_is_dropped_and_what_never_fits_is_not_saved() -> None:
    store = PrefixStore(1000)
    one, two, three = (_tokens(range(first, first + 100)) for first in (1000, 2000, 3000))
    store.put(one, "", _state(one))
    store.put(two, "", _state(two))
    found = store.match(one, "")
    assert found is not None
    store.take(found)
    store.put(three, "", _state(three))
    assert store.match(two, "") is None
    assert store.match(one, "") is found
    assert not store.prepare(_tokens(range(5000, 5300)), "")


def test_each_scope_has_its_own_copy_of_the_same_tokens() -> None:
    store = PrefixStore(10_000)
    tokens = _tokens(range(100))
    store.put(tokens, "one", _state(tokens))
    assert store.match(tokens, "two") is None
    assert store.prepare(tokens, "two")
    store.put(tokens, "two", _state(tokens))
    assert len(store) == 2
    for scope in ("one", "two"):
        found = store.match(tokens, scope)
        assert found is not None
        assert found.scope == scope
        store.drop(found)
        assert store.match(tokens, scope) is None
    assert store.used_bytes == 0


@settings(deadline=None)
@given(puts=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 80), st.integers(1, 20)), max_size=40))
def test_the_limit_holds(puts: list[tuple[int, int, int]]) -> None:
    store = PrefixStore(700)
    for first, length, token_bytes in puts:
        tokens = _tokens(range(first, first + length))
        if store.prepare(tokens, ""):
            store.put(tokens, "", _state(tokens, token_bytes))
        assert 0 <= store.used_bytes <= 700
        assert (store.used_bytes == 0) == (len(store) == 0)


def _restored(bench: Bench, tenant: str = "") -> int:
    """Cached tokens of a prompt that others have driven out of its slot, asked again by ``tenant``."""
    chat = tuple(range(90))
    bench.submit(Ask(prompt=chat, max_tokens=4))
    bench.run()
    for stranger in _STRANGERS:
        bench.submit(Ask(prompt=stranger, max_tokens=4))
    bench.run()
    again = bench.submit(Ask(prompt=(*chat, 7, 8), max_tokens=4, tenant=tenant))
    bench.run()
    bench.check_answers()
    return bench.sequences[again][0].cached


def test_an_evicted_prefix_is_restored_and_counts_as_cached() -> None:
    bench = Bench(slots=2, prefix_memory_bytes=100_000)
    assert _restored(bench) == 90
    assert bench.backend.loads == 1


def test_what_one_tenant_had_saved_is_not_restored_for_another() -> None:
    bench = Bench(slots=2, prefix_memory_bytes=100_000)
    assert _restored(bench, tenant="another") == 0
    assert bench.backend.loads == 0


def test_without_memory_nothing_is_saved() -> None:
    bench = Bench(slots=2)
    assert _restored(bench) == 0
    assert bench.backend.saves == 0


def test_a_pool_saves_what_it_empties() -> None:
    bench = Bench(slots=4, pool_tokens=210, prefix_memory_bytes=100_000)
    assert _restored(bench) == 90


def test_a_prefix_that_is_refused_is_computed_and_not_tried_again() -> None:
    bench = Bench(slots=2, prefix_memory_bytes=100_000)
    bench.backend.fail_load = lambda: True
    assert _restored(bench) == 0
    assert bench.backend.loads == 0


def test_what_was_to_be_copied_from_a_refused_prefix_in_the_same_step_is_computed_too() -> None:
    bench = Bench(slots=4, prefix_memory_bytes=100_000)
    _restored(bench)
    for stranger in _STRANGERS:
        bench.submit(Ask(prompt=(*stranger, 9), max_tokens=4))
    bench.run()
    bench.backend.fail_load = lambda: True
    twins = [bench.submit(Ask(prompt=(*range(90), 7, 8), max_tokens=6)) for _ in range(3)]
    bench.run()
    bench.check_answers()
    assert not bench.failed
    assert bench.sequences[twins[0]][0].cached == 0
    assert bench.backend.computed == bench.computed_by_sequences()
