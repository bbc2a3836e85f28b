"""Perplexity against the formula itself, computed slowly."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from engine.perplexity import perplexity, perplexity_ratio, score_text
from tests.fakes.backend import FakeBackend, HashModel

_VOCABULARY = 40


def _expected(model: HashModel, tokens: list[int], window: int, beginning: int | None) -> list[float]:
    prefix = [] if beginning is None else [beginning]
    scores = []
    for start in range(0, len(tokens), window):
        part = tokens[start : start + window]
        for place in range(1, len(part)):
            logits = model.logits_after([*prefix, *part[:place]]).astype(np.float64)
            scores.append(logits[part[place]] - math.log(np.exp(logits).sum()))
    return scores


@given(
    tokens=st.lists(st.integers(0, _VOCABULARY - 1), min_size=2, max_size=150),
    window=st.integers(2, 200),
    beginning=st.none() | st.integers(0, _VOCABULARY - 1),
)
def test_every_token_but_the_first_of_a_window_is_scored_once(
    tokens: list[int], window: int, beginning: int | None
) -> None:
    model = HashModel(_VOCABULARY, range(_VOCABULARY))
    backend = FakeBackend(model, slots=2, slot_tokens=64, batch_tokens=16)
    told: list[tuple[int, int]] = []
    scores = score_text(
        backend,
        np.array(tokens, dtype=np.int32),
        beginning=beginning,
        window=window,
        progress=lambda done, whole: told.append((done, whole)),
    )
    # What a slot holds bounds the window, the beginning token included.
    expected = _expected(model, tokens, min(window, 64 - (beginning is not None)), beginning)
    assert scores.tolist() == pytest.approx(expected, abs=1e-5)
    assert told[-1] == (len(tokens), len(tokens))


def test_what_is_certain_has_one_and_what_is_even_has_all() -> None:
    assert perplexity(np.zeros(5)) == 1.0
    assert perplexity(np.full(7, -math.log(40))) == pytest.approx(40)


def test_a_ratio_is_that_of_the_perplexities() -> None:
    random = np.random.default_rng(1)
    one, other = random.normal(-3, 1, 1000), random.normal(-3.1, 1, 1000)
    ratio, error = perplexity_ratio(one, other)
    assert ratio == pytest.approx(perplexity(other) / perplexity(one))
    assert error == pytest.approx(ratio * (one - other).std() / math.sqrt(1000))
    assert perplexity_ratio(one, one) == (1.0, 0.0)
