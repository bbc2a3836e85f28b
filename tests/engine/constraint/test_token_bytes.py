from __future__ import annotations

import numpy as np

from engine.backend import Tokens
from engine.constraint.compiler import ConstraintCompiler
from engine.constraint.spec import Regex
from engine.constraint.token_bytes import Retokenizer, TokenBytes
from tests.engine.constraint.walk import END, END_OF_TURN, SpecialByteVocabulary, WordVocabulary, allowed


class BlankFirst(WordVocabulary):
    """Puts a blank before every text, as SentencePiece does."""

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> Tokens:
        return super().tokenize(" " + text, add_special=add_special, parse_special=parse_special)


class Lossy(WordVocabulary):
    """Gives back another text than it was given."""

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> Tokens:
        return np.array([*text.lower().encode()], dtype=np.int32)


class Endless(SpecialByteVocabulary):
    """Has no end token, as some base models' files."""

    def __init__(self) -> None:
        super().__init__(ends=False)
        self.end_tokens = np.array([], dtype=np.int32)


class TextualEnd(SpecialByteVocabulary):
    """Marks an end token as ordinary text."""

    def piece(self, token: int) -> bytes:
        return b"</s>" if token == END else super().piece(token)


def test_text_in_the_middle_has_no_blank_before_it() -> None:
    plain, blank_first = WordVocabulary(), BlankFirst()
    for text in ('{"alpha": "é', ' "value', "abc", " ", "", "日本x" * 300):
        tokens = Retokenizer(blank_first)(text)
        assert b"".join(map(plain.piece, tokens)) == text.encode()


def test_what_the_tokeniser_changes_is_left_to_the_longest_match() -> None:
    retokenizer = Retokenizer(Lossy())
    assert retokenizer("ABC") == []
    retokenizer.fall_back_on(lambda text: [*text.encode()])
    assert retokenizer("ABC") == [*b"ABC"]
    assert retokenizer("abc") == [*b"abc"]


def test_end_tokens_come_first_by_use_and_are_no_text() -> None:
    tokens = TokenBytes.of(TextualEnd())
    assert tokens.ends == [END, END_OF_TURN]
    assert END in tokens.special


def test_an_end_token_that_looks_like_text_cannot_be_written() -> None:
    vocabulary = TextualEnd()
    compiler = ConstraintCompiler(vocabulary)
    try:
        assert END not in allowed(compiler.compile(Regex("<.*>")), vocabulary)
    finally:
        compiler.close()


def test_a_model_without_an_end_token_still_completes() -> None:
    compiler = ConstraintCompiler(Endless())
    try:
        constraint = compiler.compile(Regex("ab"))
        constraint.accept([*b"ab"])
        assert constraint.is_complete
    finally:
        compiler.close()
