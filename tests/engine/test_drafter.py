"""The drafter by itself: what it finds, when it stops, and what a wrong guess may cost."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from engine.backend import Tokens
from engine.drafter import NO_DRAFTS, Drafter, find_match

_TOKENS = st.lists(st.integers(0, 3), max_size=40)


def tokens(*ids: int) -> Tokens:
    return np.array(ids, dtype=np.int32)


@given(corpus=_TOKENS, text=_TOKENS, least=st.integers(1, 5))
def test_a_match_is_the_longest_and_the_latest(corpus: list[int], text: list[int], least: int) -> None:
    def matched(end: int) -> int:
        length = 0
        while length < min(8, end, len(text)) and corpus[end - 1 - length] == text[-1 - length]:
            length += 1
        return length

    best = max((matched(end) for end in range(1, len(corpus) + 1)), default=0)
    expected = max((end for end in range(1, len(corpus) + 1) if matched(end) == best), default=None)
    found = find_match(tokens(*corpus), tokens(*text), least=least)
    assert found == (expected if best >= least else None)


def test_what_followed_the_newest_tokens_is_drafted() -> None:
    text = tokens(1, 2, 3, 4, 5, 9, 1, 2, 3)
    assert Drafter().draft(text, 5, most=2, token_cost=0.3).tolist() == [4, 5]


def test_a_repetition_goes_on_beyond_the_end_of_the_text() -> None:
    text = tokens(7, 8, 1, 2, 3, 1, 2, 3, 1, 2)
    assert Drafter().draft(text, 2, most=7, token_cost=0.1).tolist() == [3, 1, 2, 3, 1, 2, 3]


def test_behind_the_end_of_a_prediction_the_text_itself_is_looked_up() -> None:
    drafter = Drafter(tokens(1, 2, 3))
    assert drafter.draft(tokens(9, 1, 2, 3, 5, 1, 2, 3), 1, most=1, token_cost=0.1).tolist() == [5]


def test_text_that_does_not_repeat_is_not_drafted() -> None:
    assert Drafter().draft(tokens(*range(50)), 40, most=8, token_cost=0.1).size == 0


def test_a_prediction_is_followed_from_its_start_and_found_again_after_a_difference() -> None:
    drafter = Drafter(tokens(10, 11, 12, 13, 14, 15))
    prompt = tokens(1, 2)
    assert drafter.draft(prompt, 2, most=3, token_cost=0.1).tolist() == [10, 11, 12]
    changed = tokens(1, 2, 10, 99, 12)
    assert drafter.draft(changed, 2, most=3, token_cost=0.1).tolist() == [13, 14, 15]


def test_no_more_is_drafted_than_pays() -> None:
    text = tokens(*range(30), *range(10))
    cheap = Drafter().draft(text, 30, most=64, token_cost=0.05)
    dear = Drafter().draft(text, 30, most=64, token_cost=0.6)
    assert 0 < dear.size < cheap.size
    assert Drafter().draft(text, 30, most=64, token_cost=1.0) is NO_DRAFTS


def test_wrong_guesses_end_the_guessing_until_some_time_has_passed() -> None:
    drafter = Drafter()
    text = tokens(*[1, 2, 3] * 10)
    wasted = 0
    while (drafts := drafter.draft(text, 3, most=16, token_cost=0.4)).size:
        wasted += drafts.size
        drafter.learn(drafts.size, 0)
        assert wasted < 30, "a drafter that is always wrong goes on"
    waits = []
    for _ in range(5):
        waits.append(0)
        while not drafter.draft(text, 3, most=16, token_cost=0.4).size:
            waits[-1] += 1
            assert waits[-1] < 1000, "trust that was lost never comes back"
        drafter.learn(1, 0)
    assert sum(waits[1:]) > 40, "a tenth of the steps at most is spent on guesses that are always wrong"


@given(outcomes=st.lists(st.tuples(st.integers(1, 24), st.integers(0, 24)), max_size=50))
def test_trust_stays_a_probability(outcomes: list[tuple[int, int]]) -> None:
    drafter = Drafter()
    for drafted, accepted in outcomes:
        drafter.learn(drafted, min(drafted, accepted))
        assert 0.0 <= drafter.trust <= 1.0
