"""A backend for the draft model of the bench: as right as a test wants it to be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tests.engine.answer_alone import ALPHABET
from tests.fakes.backend import FakeBackend, HashModel
from tests.fakes.vocabulary import ByteVocabulary


class SometimesWrong(HashModel):
    """The model of the bench, whose likeliest token is another one behind one in ``wrong_every`` texts."""

    def __init__(self, wrong_every: int, alphabet: tuple[int, ...]) -> None:
        super().__init__(ByteVocabulary.size, alphabet)
        self._wrong_every = wrong_every

    def logits(self, state: int) -> npt.NDArray[np.float32]:
        row = super().logits(state)
        return np.roll(row, 1) if self._wrong_every and state % self._wrong_every == 0 else row


def draft_backend(
    wrong_every: int = 0,
    *,
    alphabet: tuple[int, ...] = ALPHABET,
    slots: int = 4,
    slot_tokens: int = 128,
    pool_tokens: int | None = None,
    batch_tokens: int = 32,
) -> FakeBackend:
    """``wrong_every`` of 0 is never, and of 1 always wrong."""
    return FakeBackend(
        SometimesWrong(wrong_every, alphabet),
        slots=slots,
        slot_tokens=slot_tokens,
        pool_tokens=pool_tokens,
        batch_tokens=batch_tokens,
    )
