from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from engine.sampling.logprobs import top_logprobs
from engine.sampling.scratch import Scratch


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 2**32), size=st.integers(1, 9000), count=st.integers(0, 20), is_rounded=st.booleans()
)
def test_they_are_the_log_softmax_of_the_logits(seed: int, size: int, count: int, is_rounded: bool) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, size).astype(np.float32)
    if is_rounded:
        logits = np.round(logits)
    before = logits.copy()
    exact = logits.astype(np.float64)
    exact -= exact.max() + np.log(np.exp(exact - exact.max()).sum())
    token = int(random.integers(size))
    logprob, ids, logprobs = top_logprobs(logits, token, count, Scratch(size))
    assert logprob == pytest.approx(exact[token], abs=1e-4)
    assert ids.tolist() == np.argsort(-logits, kind="stable")[:count].tolist()
    assert logprobs.tolist() == pytest.approx(exact[ids].tolist(), abs=1e-4)
    assert (logits == before).all()
    if token in ids:
        assert logprobs[ids.tolist().index(token)] == logprob, "exactly: harnesses compare the two"


def test_a_banned_token_has_no_probability() -> None:
    logits = np.array([0.0, -np.inf, 0.0], dtype=np.float32)
    logprob, ids, logprobs = top_logprobs(logits, 1, 3)
    assert logprob == -np.inf
    assert ids.tolist() == [0, 2]
    assert logprobs.tolist() == pytest.approx([np.log(0.5)] * 2)
