from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from generation.marker import split_at_marker


def test_the_first_marker_cuts_the_text_and_of_twins_the_longer() -> None:
    assert split_at_marker("a<b>c<d>", ("<d>", "<b>")) == ("a", "<b>", "c<d>")
    assert split_at_marker("a<b>>c", ("<b>", "<b>>")) == ("a", "<b>>", "c")


def test_what_could_become_a_marker_is_held() -> None:
    assert split_at_marker("a <th", ("<think>", "<tool>")) == ("a ", None, "<th")
    assert split_at_marker("a <b", ("<think>",)) == ("a <b", None, "")
    assert split_at_marker("aa", ()) == ("aa", None, "")


@given(st.text("<ab>", max_size=20), st.lists(st.text("<ab>", min_size=1, max_size=4), max_size=3))
def test_nothing_is_lost_and_no_marker_passes(text: str, markers: list[str]) -> None:
    before, marker, rest = split_at_marker(text, tuple(markers))
    assert before + (marker or "") + rest == text
    assert not any(each in before for each in markers)
