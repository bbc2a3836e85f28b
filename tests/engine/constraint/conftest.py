from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.constraint.compiler import ConstraintCompiler
from tests.engine.constraint.walk import SpecialByteVocabulary, WordVocabulary


@pytest.fixture(scope="package")
def words() -> WordVocabulary:
    return WordVocabulary()


@pytest.fixture(scope="package")
def compiler() -> Iterator[ConstraintCompiler]:
    """One token a byte."""
    compiler = ConstraintCompiler(SpecialByteVocabulary())
    yield compiler
    compiler.close()


@pytest.fixture(scope="package")
def word_compiler(words: WordVocabulary) -> Iterator[ConstraintCompiler]:
    compiler = ConstraintCompiler(words)
    yield compiler
    compiler.close()
