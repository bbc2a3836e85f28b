"""Penalties against their formulas, applied to every token one by one."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from engine.sampling.params import SamplingParams
from engine.sampling.penalties import Penalties

_SIZE = 8
_tokens = st.lists(st.integers(0, _SIZE - 1), max_size=30)


@settings(deadline=None, max_examples=300)
@given(
    prompt=_tokens,
    generated=_tokens,
    logits=st.lists(st.floats(-20, 20, width=32), min_size=_SIZE, max_size=_SIZE),
    frequency=st.floats(-2, 2),
    presence=st.floats(-2, 2),
    repeat=st.floats(0.1, 2),
    last_n=st.integers(0, 20),
)
def test_the_formulas(
    prompt: list[int],
    generated: list[int],
    logits: list[float],
    frequency: float,
    presence: float,
    repeat: float,
    last_n: int,
) -> None:
    params = SamplingParams(
        frequency_penalty=frequency, presence_penalty=presence, repeat_penalty=repeat, repeat_last_n=last_n
    )
    penalties = Penalties(params, np.array(prompt, dtype=np.int32))
    for token in generated:
        penalties.accept(token)
    changed = np.array(logits, dtype=np.float32)
    penalties.apply(changed)

    counts = Counter(generated)
    recent = [*prompt, *generated][-last_n:] if last_n else []
    for token, logit in enumerate(logits):
        expected = logit
        if token in recent:
            expected = expected / repeat if expected > 0 else expected * repeat
        if counts[token]:
            expected -= counts[token] * frequency + presence
        assert changed[token] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_ban_survives_every_penalty() -> None:
    params = SamplingParams(repeat_penalty=1.3, frequency_penalty=-2.0, presence_penalty=-2.0)
    penalties = Penalties(params, np.array([1], dtype=np.int32))
    penalties.accept(1)
    logits = np.array([0.0, -np.inf], dtype=np.float32)
    penalties.apply(logits)
    assert logits[1] == -np.inf


@pytest.mark.parametrize(
    ("params", "needed"),
    [
        (SamplingParams(), False),
        (SamplingParams(repeat_penalty=1.1), True),
        (SamplingParams(frequency_penalty=0.1), True),
        (SamplingParams(presence_penalty=-0.1), True),
    ],
)
def test_they_are_made_only_where_they_do_something(params: SamplingParams, needed: bool) -> None:
    assert Penalties.are_needed(params) is needed
