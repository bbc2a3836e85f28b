from __future__ import annotations

import pytest
from hypothesis import given

from generation.events import TextDelta
from generation.reasoning.tags import TagReader
from tests.generation.reasoning.pieces import cuts, read


def _reader(*, is_inside: bool = False) -> TagReader:
    return TagReader(0, "<think>", "</think>", is_inside=is_inside)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["<think>", "\n", "Hm", ".", "\n", "</think>", "\n\n", "Hi"], ("Hm.", "Hi", 6, 2)),
        (["\n", "<th", "ink>", "Hm", "</th", "ink>", "Hi"], ("Hm", "Hi", 6, 1)),
        (["<think>", "\n\n", "</think>", "\n\n", "Hi"], ("", "Hi", 3, 2)),
        (["Hi", " <think>", "no</think>"], ("", "Hi <think>no</think>", 0, 3)),
        ([" ", "Hi"], ("", " Hi", 0, 2)),
        (["<think>", "a", "\n", " b", " \n"], ("a\n b", "", 5, 0)),
        (["<think>", "a </thi"], ("a </thi", "", 2, 0)),
        (["<thi"], ("", "<thi", 0, 1)),
        (["  "], ("", "  ", 0, 1)),
        (["<think>a</think>b</think><think>c"], ("a", "b</think><think>c", 1, 0)),
        ([], ("", "", 0, 0)),
    ],
)
def test_what_comes_of_what_is_written(pieces: list[str], expected: tuple[str, str, int, int]) -> None:
    assert read(_reader(), pieces) == expected


def test_a_prompt_that_has_opened_the_tag() -> None:
    assert read(_reader(is_inside=True), ["Hm", "</think>", "\n", "Hi"]) == ("Hm", "Hi", 2, 2)
    assert read(_reader(is_inside=True), ["Hm", ""]) == ("Hm", "", 2, 0)


def test_the_answer_is_not_held_up_by_what_is_no_tag() -> None:
    reader = _reader()
    assert reader.add(_text("<b>")) == [TextDelta(0, "<b>")]
    assert reader.add(_text(" <")) == [TextDelta(0, " <")]


@given(cuts(("<think>", "</think>", "<think", ">", "</", " ", "\n", "a")))
def test_however_the_text_is_cut_it_is_read_alike(pieces: list[str]) -> None:
    for is_inside in (False, True):
        whole = read(_reader(is_inside=is_inside), ["".join(pieces)])
        cut = read(_reader(is_inside=is_inside), pieces)
        assert cut[:2] == whole[:2]
        assert cut[2] + cut[3] == len(pieces)


def _text(text: str) -> TextDelta:
    return TextDelta(0, text)
