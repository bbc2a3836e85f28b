"""Bytes to text: however the bytes of a character are spread over tokens, it comes whole or not at all."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
from hypothesis import given, settings

from engine.detokenizer import Detokenizer


def _pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    return [raw[start:end] for start, end in itertools.pairwise(edges)]


def _texts(pieces: list[bytes]) -> list[str]:
    detokenizer = Detokenizer(pieces.__getitem__)
    return [detokenizer.add(token) for token in range(len(pieces))]


_cuts = st.lists(st.integers(0, 60), max_size=20)


@settings(deadline=None, max_examples=300)
@given(text=st.text(max_size=20), cuts=_cuts)
def test_any_text_cut_anywhere_comes_whole(text: str, cuts: list[int]) -> None:
    texts = _texts(_pieces(text.encode(), cuts))
    assert "".join(texts) == text
    assert "�" in text or not any("�" in part for part in texts)


@settings(deadline=None, max_examples=300)
@given(text=st.text(max_size=20), cuts=_cuts)
def test_characters_come_as_soon_as_they_are_whole(text: str, cuts: list[int]) -> None:
    raw, read, sent = text.encode(), 0, 0
    pieces = _pieces(raw, cuts)
    for piece, part in zip(pieces, _texts(pieces), strict=True):
        read += len(piece)
        sent += len(part.encode())
        assert 0 <= read - sent < 4


@settings(deadline=None, max_examples=300)
@given(raw=st.binary(max_size=40), cuts=_cuts)
def test_any_bytes_give_the_text_that_a_decoder_gives_but_for_an_unfinished_end(
    raw: bytes, cuts: list[int]
) -> None:
    text = "".join(_texts(_pieces(raw, cuts)))
    whole = raw.decode("utf-8", "replace")
    assert whole.startswith(text)
    # A whole decoder may count several bytes of an unfinished character one by one.
    assert whole[len(text) :] in ("", "�", "��", "���")


def test_an_invalid_byte_costs_itself_alone() -> None:
    assert "".join(_texts([b"a\xff", b"b\xc3", b"c"])) == "a�b�c"


def test_an_empty_piece_is_nothing() -> None:
    assert _texts([b"\xc3", b"", b"\xa9"]) == ["", "", "é"]
