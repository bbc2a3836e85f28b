"""Requests to sequences over the byte vocabulary."""

from __future__ import annotations

import pytest

from engine.errors import ContextLengthExceeded, InvalidRequest
from engine.intake import Intake
from engine.prompt import TextPrompt, TokenPrompt
from engine.prompt_reader import PromptReader
from engine.request import EngineRequest
from engine.sampling.params import SamplingParams
from tests.fakes.vocabulary import BEGINNING, END_OF_TURN, START_OF_TURN, ByteVocabulary

CONTEXT = 50


@pytest.fixture
def intake() -> Intake:
    vocabulary = ByteVocabulary()
    return Intake(vocabulary, PromptReader(vocabulary, None, context=CONTEXT), context=CONTEXT)


def test_choices_are_numbered_through_all_prompts(intake: Intake) -> None:
    request = EngineRequest(prompts=(TextPrompt("ab"), TokenPrompt((1, 2))), n=3, max_tokens=7)
    sequences = intake.sequences(4, request)
    assert [s.choice for s in sequences] == [0, 1, 2, 3, 4, 5]
    assert {s.request for s in sequences} == {4}
    assert [s.is_first_choice for s in sequences] == [True, False, False] * 2
    assert [s.prompt.tolist() for s in sequences] == [[BEGINNING, *b"ab"]] * 3 + [[1, 2]] * 3
    assert {s.max_length - s.prompt_length for s in sequences} == {7}


def test_without_a_limit_an_answer_may_fill_what_the_context_leaves(intake: Intake) -> None:
    (sequence,) = intake.sequences(1, EngineRequest(prompts=(TokenPrompt((1,) * 20),)))
    assert sequence.max_length == CONTEXT


def test_ends_are_banned_below_the_least_and_for_ever_when_ignored(intake: Intake) -> None:
    (sequence,) = intake.sequences(1, EngineRequest(prompts=(TextPrompt("a"),), max_tokens=9, min_tokens=2))
    may_end = []
    for _ in range(4):
        may_end.append(sequence.may_end)
        sequence.append(1)
    assert may_end == [False, False, True, True]
    (ignoring,) = intake.sequences(
        1, EngineRequest(prompts=(TextPrompt("a"),), max_tokens=9, ignore_eos=True)
    )
    assert not ignoring.may_end


@pytest.mark.parametrize("token", [-1, ByteVocabulary.size])
def test_a_bias_outside_the_vocabulary_is_refused_by_name(intake: Intake, token: int) -> None:
    sampling = SamplingParams(logit_bias={0: 1.0, token: 1.0})
    with pytest.raises(InvalidRequest, match=f"token id {token} ") as caught:
        intake.sequences(1, EngineRequest(prompts=(TextPrompt("a"),), sampling=sampling))
    assert caught.value.param == "logit_bias"


def test_an_answer_of_no_tokens_is_refused_by_name(intake: Intake) -> None:
    with pytest.raises(InvalidRequest) as caught:
        intake.sequences(1, EngineRequest(prompts=(TextPrompt("a"),), max_tokens=0))
    assert caught.value.param == "max_tokens"


def test_one_prompt_that_does_not_fit_refuses_the_request(intake: Intake) -> None:
    request = EngineRequest(prompts=(TextPrompt("a"), TokenPrompt((1,) * CONTEXT)), max_tokens=1)
    with pytest.raises(ContextLengthExceeded):
        intake.sequences(1, request)


def test_control_tokens_are_shown_to_what_looks_for_them(intake: Intake) -> None:
    request = EngineRequest(prompts=(TextPrompt("a"),), shown_controls=("<|im_start|>", "no token"))
    (sequence,) = intake.sequences(1, request)
    assert sequence.detokenizer.add(START_OF_TURN) == "<|im_start|>"
    assert sequence.detokenizer.add(END_OF_TURN) == ""
    (sequence,) = intake.sequences(1, EngineRequest(prompts=(TextPrompt("a"),)))
    assert sequence.detokenizer.add(START_OF_TURN) == ""
