"""A model's decode step by itself, for what is measured as a share of it."""

from __future__ import annotations

import time
from typing import Self

import numpy as np
import numpy.typing as npt

from engine.native.context import NativeContext
from engine.native.model import NativeModel
from engine.threads import choose_threads

_SLOT_TOKENS = 512
_TEXT = (
    "The history of the village began long before anyone wrote it down. Two brothers came across the hills with a "
    "cart, a cow and a bag of seed, and where the cart broke down they built a house. In the spring the river rose "
    "higher than they had ever seen it, and in the summer there was no rain at all."
)


class DecodeStep:
    """Reads an English text token by token, in as many sequences at once as is asked for, over and over."""

    def __init__(self, model: NativeModel, *, widest: int) -> None:
        self._context = NativeContext(
            model,
            slots=widest,
            slot_tokens=_SLOT_TOKENS,
            batch_tokens=_SLOT_TOKENS,
            threads=choose_threads(None).count,
        )
        self._text = model.vocabulary.tokenize(_TEXT, add_special=True, parse_special=False)[:_SLOT_TOKENS]
        self._position = self._width = 0
        self.vocabulary_size = model.vocabulary.size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._context.close()

    def run(self, width: int) -> float:
        """Seconds that the next token took in the first ``width`` sequences together."""
        self._decode(width)
        return self._seconds

    def logits(self) -> npt.NDArray[np.float32]:
        """Behind each token of the text, shape (tokens, v)."""
        self._position = 0
        return np.array([self._decode(1)[0] for _ in self._text])

    def _decode(self, width: int) -> npt.NDArray[np.float32]:
        if self._position == 0 or width != self._width:
            self._position, self._width = 0, width
            for slot in range(self._context.slots):
                self._context.clear_slot(slot)
        batch = self._context.batch
        batch.token[:width] = self._text[self._position]
        batch.position[:width] = self._position
        batch.slot[:width] = np.arange(width)
        batch.wants_logits[:width] = 1
        started_s = time.perf_counter()
        logits = self._context.decode(width, width)
        self._seconds = time.perf_counter() - started_s
        self._position = (self._position + 1) % self._text.size
        return logits
