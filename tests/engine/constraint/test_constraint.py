from __future__ import annotations

import json

import numpy as np
import pytest

from engine.constraint.compiler import ConstraintCompiler
from engine.constraint.mask import Mask
from engine.constraint.spec import JsonSchema, Lark, Regex
from engine.errors import InternalError, InvalidRequest
from tests.engine.constraint.walk import (
    END,
    END_OF_TURN,
    SpecialByteVocabulary,
    WordVocabulary,
    accepts,
    agreeable,
    allowed,
    feed,
)

BYTES = SpecialByteVocabulary()
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "is_adult": {"type": "boolean"}},
    "required": ["name", "is_adult"],
    "additionalProperties": False,
}


def test_only_what_may_come_next_keeps_its_logit(compiler: ConstraintCompiler) -> None:
    constraint = compiler.compile(Regex("[ab]c?"))
    logits = np.linspace(-3, 3, BYTES.size, dtype=np.float32)
    before = logits.copy()
    constraint.apply(logits)
    assert np.flatnonzero(logits > -np.inf).tolist() == [*b"ab"]
    assert logits[ord("a")] == before[ord("a")]


def test_every_end_token_is_allowed_exactly_where_the_answer_may_end(compiler: ConstraintCompiler) -> None:
    constraint = compiler.compile(Regex("ab?"))
    assert allowed(constraint, BYTES) == [ord("a")]
    assert not constraint.may_end
    feed(constraint, "a")
    assert allowed(constraint, BYTES) == [ord("b"), END, END_OF_TURN]
    assert constraint.may_end
    assert not constraint.is_complete
    feed(constraint, "b")
    assert constraint.is_complete
    assert allowed(constraint, BYTES) == [END, END_OF_TURN]


def test_an_end_token_changes_nothing(compiler: ConstraintCompiler) -> None:
    constraint = compiler.compile(Regex("ab?"))
    with pytest.raises(InternalError):
        constraint.accept([END])
    feed(constraint, "a")
    constraint.accept([END_OF_TURN])
    assert constraint.may_end


def test_a_grammar_cannot_end_an_answer_half_way(compiler: ConstraintCompiler) -> None:
    constraint = compiler.compile(Lark('start: "a" (</s> | "b") "c"'))
    feed(constraint, "a")
    assert allowed(constraint, BYTES) == [ord("b")]


def test_a_place_without_any_token_fails(compiler: ConstraintCompiler) -> None:
    constraint = compiler.compile(Lark('start: /[a-z]{40}/ </s> "c"'))
    feed(constraint, "a" * 40)
    with pytest.raises(InvalidRequest, match="no token"):
        allowed(constraint, BYTES)


def test_a_started_mask_is_the_same_mask(compiler: ConstraintCompiler) -> None:
    constraint = compiler.compile(JsonSchema(json.dumps(PERSON)))
    feed(constraint, '{"name": "x')
    other = constraint.clone()
    for _ in range(3):  # again without need, and with one computed already
        constraint.start_mask()
    assert allowed(constraint, BYTES) == allowed(other, BYTES)
    constraint.start_mask()
    feed(constraint, '", "is_adult": ')
    assert allowed(constraint, BYTES) == [*b"ft"]


def test_a_token_can_be_asked_about_where_none_is_forced(
    word_compiler: ConstraintCompiler, words: WordVocabulary
) -> None:
    constraint = word_compiler.compile(JsonSchema(json.dumps(PERSON)))
    assert not constraint.can_be_asked
    forced = constraint.forced()
    constraint.accept(forced)
    assert not constraint.can_be_asked, "more may be forced"
    feed(constraint, '{"name": "'.removeprefix(b"".join(map(words.piece, forced)).decode()))
    for text in ("x", "\\n", "é", "y"):
        feed(constraint, text)
        assert constraint.forced() == []
        assert constraint.can_be_asked
        assert agreeable(constraint, words) == allowed(constraint.clone(), words)


def test_whoever_agreed_is_asked_again_and_whoever_did_not_is_masked_once(
    compiler: ConstraintCompiler,
) -> None:
    constraint = compiler.compile(Regex("[a-f]{9}"))
    assert not constraint.is_likely_to_agree, "something may be forced"
    assert constraint.forced() == []
    assert constraint.is_likely_to_agree
    assert not constraint.allows(ord("x"))
    assert not constraint.is_likely_to_agree
    feed(constraint, "a")
    constraint.forced()
    assert not constraint.is_likely_to_agree
    constraint.start_mask()
    assert not constraint.can_be_asked, "the mask knows"
    feed(constraint, "b")
    constraint.forced()
    assert constraint.is_likely_to_agree
    assert constraint.allows(ord("c"))
    assert not constraint.allows(END)


def test_forced_tokens_are_the_models_own_and_lead_to_the_same_place(
    word_compiler: ConstraintCompiler, words: WordVocabulary
) -> None:
    constraint = word_compiler.compile(JsonSchema(json.dumps(PERSON)))
    forced = constraint.forced()
    text = b"".join(map(words.piece, forced)).decode()
    assert text.startswith('{"nam')
    assert forced == words.tokenize(text, add_special=False, parse_special=False).tolist()
    assert constraint.forced() == forced
    constraint.accept(forced)
    feed(constraint, '{"name": "x", "'.removeprefix(text))
    assert b"".join(map(words.piece, constraint.forced())).decode().startswith("is_adult")


def test_no_end_token_is_forced(compiler: ConstraintCompiler) -> None:
    constraint = compiler.compile(Regex("abc"))
    constraint.accept(constraint.forced())
    if not constraint.is_complete:
        feed(constraint, "c")
    assert constraint.is_complete
    assert constraint.forced() == []


def test_clones_go_their_own_ways(compiler: ConstraintCompiler) -> None:
    one = compiler.compile(Regex("ax|by"))
    other = one.clone()
    feed(one, "a")
    feed(other, "b")
    assert (allowed(one, BYTES), allowed(other, BYTES)) == ([ord("x")], [ord("y")])


def test_what_was_accepted_can_be_taken_back(compiler: ConstraintCompiler) -> None:
    constraint = compiler.compile(Regex("ab{3}"))
    feed(constraint, "abbb")
    assert constraint.is_complete
    constraint.rollback(0)
    constraint.rollback(3)
    assert not constraint.is_complete
    assert allowed(constraint, BYTES) == [ord("b")]
    assert accepts(constraint, "bbb")
    with pytest.raises(InternalError):
        constraint.rollback(2)


def test_a_draft_is_allowed_up_to_its_first_wrong_token(compiler: ConstraintCompiler) -> None:
    constraint = compiler.compile(Regex("abc"))
    assert constraint.count_allowed([*b"abx"]) == 2
    assert allowed(constraint, BYTES) == [ord("a")]


def test_a_token_against_the_mask_is_a_defect_of_ours(compiler: ConstraintCompiler) -> None:
    constraint = compiler.compile(Regex("abc"))
    with pytest.raises(InternalError, match="went past"):
        feed(constraint, "x")
    with pytest.raises(InternalError):
        allowed(constraint, BYTES)


@pytest.mark.parametrize("size", [1, 31, 32, 33, 260, 1000])
def test_bits_reach_logits_at_every_size(size: int) -> None:
    rng = np.random.default_rng(size)
    mask = Mask(size, [size - 1])
    bits = mask.empty()
    bits.view(np.uint8)[:] = rng.integers(0, 256, bits.nbytes, dtype=np.uint8)
    for are_allowed in (True, False):
        mask.set_ends(bits, are_allowed=are_allowed)
        logits = rng.standard_normal(size).astype(np.float32)
        expected = logits.copy()
        is_set = [bool(bits.view(np.uint8)[token // 8] >> token % 8 & 1) for token in range(size)]
        expected[~np.array(is_set)] = -np.inf
        mask.apply(bits, logits)
        np.testing.assert_array_equal(logits, expected)
        assert is_set[size - 1] == are_allowed
