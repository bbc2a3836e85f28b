"""The bundled model's 49 thousand tokens, random logits instead of weights."""

from __future__ import annotations

import json
from collections.abc import Iterator

import jsonschema
import numpy as np
import pytest

from engine.constraint.compiler import ConstraintCompiler
from engine.constraint.spec import JsonSchema
from engine.native.model import NativeModel
from engine.native.vocabulary import NativeVocabulary
from tests.engine.real import model_path

pytestmark = pytest.mark.model

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "naïve 日本"]}, "maxItems": 4},
        "the_address_of_the_first_residence": {
            "type": "object",
            "properties": {"street": {"type": "string", "pattern": "^[A-Z][a-z ]{3,20}$"}},
            "required": ["street"],
            "additionalProperties": False,
        },
    },
    "required": ["name", "age", "tags", "the_address_of_the_first_residence"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def vocabulary() -> NativeVocabulary:
    return NativeModel(str(model_path()), 0).vocabulary


@pytest.fixture(scope="module")
def real_compiler(vocabulary: NativeVocabulary) -> Iterator[ConstraintCompiler]:
    compiler = ConstraintCompiler(vocabulary)
    yield compiler
    compiler.close()


@pytest.mark.parametrize("seed", range(5))
def test_random_logits_write_valid_json(
    real_compiler: ConstraintCompiler, vocabulary: NativeVocabulary, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    constraint = real_compiler.compile(JsonSchema(json.dumps(SCHEMA)))
    written: list[int] = []
    forced_count = 0
    while not constraint.is_complete and len(written) < 500:
        if forced := constraint.forced():
            constraint.accept(forced)
            written += forced
            forced_count += len(forced)
            continue
        constraint.start_mask()
        logits = rng.standard_normal(vocabulary.size).astype(np.float32)
        constraint.apply(logits)
        token = int(logits.argmax())
        constraint.accept([token])
        written.append(token)
    text = b"".join(map(vocabulary.piece, written)).decode()
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(text))
    assert forced_count >= 8, "long keys are forced"
    logits = np.zeros(vocabulary.size, dtype=np.float32)
    constraint.apply(logits)
    assert np.flatnonzero(logits == 0.0).tolist() == vocabulary.end_tokens.tolist()
