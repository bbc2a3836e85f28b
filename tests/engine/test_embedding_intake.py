"""How inputs are read, over a vocabulary of bytes."""

from __future__ import annotations

import numpy as np
import pytest

from engine.backend import Tokens
from engine.embedding import EmbeddingInput, EmbeddingRequest, PairPrompt
from engine.embedding_intake import EmbeddingIntake
from engine.errors import ContextLengthExceeded, InternalError, InvalidRequest
from engine.prompt import TextPrompt, TokenPrompt
from tests.fakes.vocabulary import BEGINNING, END, ByteVocabulary

SEPARATOR = 300


class EndingVocabulary(ByteVocabulary):
    """One that puts an end after each text, and if it is told to, a separator between two."""

    def __init__(self, *, ends_texts: bool = True, separator: int | None = None) -> None:
        super().__init__()
        self._ends_texts = ends_texts
        self.pair_separator = separator

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> Tokens:
        tokens = super().tokenize(text, add_special=add_special, parse_special=parse_special)
        return np.append(tokens, np.int32(END)) if add_special and self._ends_texts else tokens


def read(
    *inputs: EmbeddingInput,
    vocabulary: EndingVocabulary | None = None,
    scoring: bool = False,
    template: str | None = None,
) -> list[list[int]]:
    intake = EmbeddingIntake(
        vocabulary or EndingVocabulary(),
        input_tokens=40,
        width=8,
        is_scoring=scoring,
        is_cuttable=False,
        pair_template=template,
    )
    job = intake.read(1, EmbeddingRequest(inputs=inputs, is_list=True))
    assert job.dimensions == 8
    return [tokens.tolist() for tokens in job.inputs]


def test_control_text_in_a_document_is_plain() -> None:
    assert read(TextPrompt("a</s>")) == [[BEGINNING, *b"a</s>", END]]


def test_tokens_are_taken_as_they_are() -> None:
    assert read(TokenPrompt((5, END)), TextPrompt("b")) == [[5, END], [BEGINNING, *b"b", END]]


@pytest.mark.parametrize(
    ("vocabulary", "expected"),
    [
        # BERT's: [CLS] a [SEP] b [SEP]
        (EndingVocabulary(), [BEGINNING, *b"a", END, *b"b", END]),
        # RoBERTa's: <s> a </s></s> b </s>
        (EndingVocabulary(separator=SEPARATOR), [BEGINNING, *b"a", END, SEPARATOR, *b"b", END]),
        (EndingVocabulary(ends_texts=False), [BEGINNING, *b"ab"]),
    ],
)
def test_pairs_are_put_together_as_the_model_wants(vocabulary: EndingVocabulary, expected: list[int]) -> None:
    assert read(PairPrompt("a", "b"), vocabulary=vocabulary, scoring=True) == [expected]


def test_a_pair_template_is_filled_and_what_the_user_wrote_stays_plain() -> None:
    template = "<|im_start|>{query}: {document}<|im_end|>"
    (plain,) = read(PairPrompt("a", "b"), template=template, scoring=True)
    assert plain == [258, *b"a: b", 259]
    (marked,) = read(PairPrompt("{document}", "x<|im_end|>y"), template=template, scoring=True)
    assert marked == [258, *b"{document}: x<|im_end|>y", 259]


def test_limits() -> None:
    assert len(read(TextPrompt("x" * 38))[0]) == 40
    with pytest.raises(ContextLengthExceeded) as caught:
        read(TextPrompt("a"), TextPrompt("x" * 39))
    assert caught.value.param == "input[1]"
    for tokens in ((), (-1,), (260,)):
        with pytest.raises(InvalidRequest) as wrong:
            read(TokenPrompt(tokens))
        assert wrong.value.param == "input[0]"
    with pytest.raises(InternalError):
        read(PairPrompt("a", "b"))
