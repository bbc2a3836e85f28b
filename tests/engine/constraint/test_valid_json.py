"""Whatever a model writes under a schema's masks and ends by itself, a validator accepts."""

from __future__ import annotations

import json
import random
from collections import Counter

import jsonschema
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from engine.constraint.compiler import ConstraintCompiler
from engine.constraint.spec import JsonObject, JsonSchema, Whitespace
from engine.errors import InvalidRequest
from tests.engine.constraint.schemas import Schema, schemas
from tests.engine.constraint.walk import WordVocabulary, walk

_whitespace: st.SearchStrategy[Whitespace] = st.sampled_from(["spaced", "compact", "flexible"])


def test_a_random_walk_through_any_schema_ends_in_a_valid_instance(
    word_compiler: ConstraintCompiler, words: WordVocabulary
) -> None:
    outcomes: Counter[str] = Counter()

    @settings(max_examples=320, deadline=None, suppress_health_check=list(HealthCheck))
    @given(schema=schemas, whitespace=_whitespace, seed=st.integers(0, 2**32))
    def walks(schema: Schema, whitespace: Whitespace, seed: int) -> None:
        try:
            constraint = word_compiler.compile(JsonSchema(json.dumps(schema), whitespace))
        except InvalidRequest as error:
            event(f"refused: {error.message[:60]}")
            outcomes["refused"] += 1
            return
        text = walk(constraint, words, random.Random(seed))
        outcomes["cut" if text is None else "ended"] += 1
        if text is not None:
            instance = json.loads(text)
            # Formats are checked elsewhere: masks know their shape, not that 2023 had no 29 February.
            jsonschema.Draft202012Validator(schema).validate(instance)

    walks()
    # Refusing everything would be safe as well.
    assert outcomes["ended"] >= 200, outcomes


@pytest.mark.parametrize("seed", range(10))
def test_a_json_object_is_one(word_compiler: ConstraintCompiler, words: WordVocabulary, seed: int) -> None:
    text = walk(word_compiler.compile(JsonObject()), words, random.Random(seed))
    assert text is not None
    assert isinstance(json.loads(text), dict)
