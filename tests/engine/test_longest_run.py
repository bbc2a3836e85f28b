from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from engine.longest_run import longest_run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("a", 1),
        ("one three", 5),
        ("one\nthree\tfour", 5),
        ("    ", 4),
        (" \u3000 \u3000\u200b ", 6),
        ("a\x1ca\x0ca\u2028a\xa0a", 9),
        ("中文没有空格", 6),
    ],
)
def test_stretches(text: str, expected: int) -> None:
    assert longest_run(text) == expected


@given(st.text(alphabet="ab \n\u3000\x1c"))
def test_no_word_or_gap_of_anybody_is_longer(text: str) -> None:
    """Whatever one takes for space, of what is space anywhere."""
    for spaces in (" \n", " \n\u3000", " \n\u3000\x1c"):
        stretch, longest, kind = 0, 0, None
        for letter in text:
            stretch = stretch + 1 if (letter in spaces) == kind else 1
            kind = letter in spaces
            longest = max(longest, stretch)
        assert longest_run(text) >= longest
