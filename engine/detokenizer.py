"""Tokens to text, one character never split: bytes are held until they make a whole one."""

from __future__ import annotations

import codecs
from collections.abc import Callable

_decoder_of_utf8 = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """The text of one sequence, token by token.

    ``piece_of`` gives the bytes of a token. Bytes that can never become a character turn into U+FFFD, as every
    UTF-8 decoder does; an unfinished character at the very end is dropped, since no more of it will come.
    """

    __slots__ = ("_decode", "_piece_of")

    def __init__(self, piece_of: Callable[[int], bytes]) -> None:
        self._piece_of = piece_of
        self._decode = _decoder_of_utf8("replace").decode

    def add(self, token: int) -> str:
        """The characters that ``token`` completes; often one word, sometimes nothing."""
        return self._decode(self._piece_of(token))
