"""Stop strings against an obvious implementation that sees the whole text at every character."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
from hypothesis import example, given, settings

from engine.stop_matcher import StopMatcher

_stops = st.lists(st.text("ab", min_size=1, max_size=4), max_size=4).map(tuple)
_text = st.text("abc", max_size=30)
_cuts = st.lists(st.integers(0, 30), max_size=6)


def _obvious(stops: tuple[str, ...], text: str) -> tuple[str, bool]:
    """The text before the stop string that is complete first; of two that end together, the longer."""
    for end in range(1, len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)], True
    return text, False


def _chunks(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


@settings(deadline=None, max_examples=500)
@given(stops=_stops, text=_text, cuts=_cuts)
@example(stops=("b", "ab"), text="ab", cuts=[1])
@example(stops=("bc", "abcd"), text="abcd", cuts=[3])
@example(stops=("bc", "abcd"), text="abcd", cuts=[])
@example(stops=("aab",), text="aaab", cuts=[1, 2, 3])
def test_what_is_sent_is_what_stands_before_the_stop_however_it_comes(
    stops: tuple[str, ...], text: str, cuts: list[int]
) -> None:
    matcher = StopMatcher(stops)
    sent = seen = ""
    for chunk in _chunks(text, cuts):
        sent += matcher.add(chunk)
        if matcher.is_matched:
            break
        seen += chunk
        # Nothing that a stop string could still be made of has been sent.
        begun = [end for stop in stops for end in range(1, len(stop)) if seen.endswith(stop[:end])]
        assert len(sent) == len(seen) - max(begun, default=0)
    expected, is_matched = _obvious(stops, text)
    assert matcher.is_matched == is_matched
    assert sent + matcher.flush() == expected


def test_without_stop_strings_everything_passes() -> None:
    matcher = StopMatcher(())
    assert matcher.add("abc") == "abc"
    assert matcher.flush() == ""
    assert not matcher.is_matched


def test_flush_gives_what_was_held_once() -> None:
    matcher = StopMatcher(("END",))
    assert matcher.add("the EN") == "the "
    assert matcher.flush() == "EN"
    assert matcher.flush() == ""


def test_characters_outside_ascii() -> None:
    matcher = StopMatcher(("🙂é",))
    assert [matcher.add(part) for part in ("a🙂", "🙂", "é", "b")][:3] == ["a", "🙂", ""]
    assert matcher.is_matched
