"""Threads that compute meet safely, however long they wait for each other (scripts/patient_barrier.h)."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from engine.native import library
from engine.native.context import NativeContext
from engine.native.model import NativeModel
from tests.engine.real import LONG_TEXT

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(sys.platform != "linux", reason="the barrier sleeps by a call of Linux"),
]
_STEPS = 24


@pytest.fixture(autouse=True)
def told() -> Iterator[None]:
    library.initialise()
    if not library.set_patience(20):
        pytest.skip("this build of llama.cpp has OpenMP's own barrier")
    yield
    library.set_patience(20)


def _answer(model: NativeModel, threads: int) -> list[npt.NDArray[np.float32]]:
    """The logits of greedy steps behind a prompt."""
    context = NativeContext(model, slots=1, slot_tokens=512, batch_tokens=128, threads=threads)
    try:
        prompt = model.vocabulary.tokenize(LONG_TEXT, add_special=True, parse_special=False)[:100]
        batch, logits, at = context.batch, [], 0
        tokens = prompt
        for _ in range(_STEPS):
            count = len(tokens)
            batch.token[:count] = tokens
            batch.position[:count] = np.arange(at, at + count)
            batch.slot[:count] = 0
            batch.wants_logits[:count] = 0
            batch.wants_logits[count - 1] = 1
            logits.append(context.decode(count, 1)[0].copy())
            at += count
            tokens = np.array([logits[-1].argmax()], dtype=np.int32)
        return logits
    finally:
        context.close()


@pytest.mark.parametrize("patience_us", [0, 5, 200, 100_000])
def test_what_is_computed_does_not_hang_on_how_threads_wait(model: NativeModel, patience_us: int) -> None:
    expected = _answer(model, 2)
    assert library.set_patience(patience_us)
    for one, other in zip(_answer(model, 2), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_more_threads_than_cores_that_sleep_at_once_are_all_woken(model: NativeModel) -> None:
    expected = _answer(model, 1)
    assert library.set_patience(0)
    answers = _answer(model, 7)
    assert [int(each.argmax()) for each in answers] == [int(each.argmax()) for each in expected]
