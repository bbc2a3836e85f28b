"""JSON behind a thought: what the grammar of each way of marking reasoning lets a model write."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from engine.constraint.compiler import ConstraintCompiler
from engine.errors import InvalidRequest
from generation.reasoning.reasoning_format import HarmonyFormat, TagFormat
from tests.engine.constraint.walk import WordVocabulary, accepts

SCHEMA = (
    '{"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}',
    "response_format",
)
TAGS = TagFormat("<think>", "</think>")


@pytest.fixture(scope="module")
def compiler() -> Iterator[ConstraintCompiler]:
    compiler = ConstraintCompiler(WordVocabulary())
    yield compiler
    compiler.close()


def test_a_thought_may_come_first_and_nothing_else(compiler: ConstraintCompiler) -> None:
    constraint = compiler.compile(TAGS.shaped(SCHEMA))
    assert accepts(constraint, '{"x": 1}')
    assert accepts(constraint, '<think>\nWhat is {"x"?</think>{"x": 1}')
    assert not accepts(constraint, 'Well, {"x": 1}')
    assert not accepts(constraint, "<think>1</think>1")
    assert not accepts(constraint, "<think>1")


def test_a_thought_that_the_prompt_began_is_ended(compiler: ConstraintCompiler) -> None:
    constraint = compiler.compile(msgspec.structs.replace(TAGS.shaped(SCHEMA), is_thinking=True))
    assert accepts(constraint, 'Hm.</think>{"x": 1}')
    assert not accepts(constraint, '{"x": 1}')


def test_harmony_answers_in_its_final_channel(compiler: ConstraintCompiler) -> None:
    constraint = compiler.compile(HarmonyFormat().shaped(SCHEMA))
    final = '<|channel|>final<|message|>{"x": 1}'
    assert accepts(constraint, final)
    thought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
    assert accepts(constraint, thought + thought + final)
    assert not accepts(constraint, '{"x": 1}')
    assert not accepts(constraint, thought)


def test_a_schema_that_cannot_be_enforced_is_named(compiler: ConstraintCompiler) -> None:
    with pytest.raises(InvalidRequest) as caught:
        compiler.compile(
            TAGS.shaped(('{"type": "no such type"}', "response_format")), param="response_format"
        )
    assert caught.value.param == "response_format"
