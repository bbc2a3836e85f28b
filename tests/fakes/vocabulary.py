"""A vocabulary of the 256 bytes and a few control tokens, written as in ChatML."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from engine.infill import InfillTokens

BEGINNING, END, START_OF_TURN, END_OF_TURN = 256, 257, 258, 259
CONTROLS = {"<s>": BEGINNING, "</s>": END, "<|im_start|>": START_OF_TURN, "<|im_end|>": END_OF_TURN}
_CONTROL_TEXT = re.compile("|".join(map(re.escape, CONTROLS)))


class ByteVocabulary:
    """Implements ``engine.prompt_reader.Vocabulary``. ``begins`` False is a model without a beginning token.

    ``infills`` True is a model with markers for filling in the middle, which are bytes 1, 2 and 3.
    """

    size = 256 + len(CONTROLS)

    def __init__(self, *, begins: bool = True, ends: bool = True, infills: bool = False) -> None:
        self.infill_tokens = InfillTokens(1, 2, 3) if infills else None
        self.beginning: int | None = BEGINNING if begins else None
        self.end: int | None = END if ends else None
        self.end_tokens: npt.NDArray[np.int32] = np.array([END, END_OF_TURN], dtype=np.int32)

    @property
    def control_texts(self) -> tuple[str, ...]:
        return tuple(sorted(CONTROLS, key=len, reverse=True))

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> npt.NDArray[np.int32]:
        ids: list[int] = []
        if add_special and self.beginning is not None:
            ids.append(self.beginning)
        at = 0
        for hit in _CONTROL_TEXT.finditer(text) if parse_special else ():
            ids += text[at : hit.start()].encode()
            ids.append(CONTROLS[hit[0]])
            at = hit.end()
        ids += text[at:].encode()
        return np.array(ids, dtype=np.int32)

    def special_text(self, token: int) -> str:
        if token < 256:
            return bytes([token]).decode("utf-8", "replace")
        return next(text for text, control in CONTROLS.items() if control == token)

    def spelled(self, token: int) -> bytes:
        return self.piece(token) or self.special_text(token).encode()

    def piece(self, token: int) -> bytes:
        if not 0 <= token < self.size:
            raise IndexError(f"token {token} is outside the vocabulary")
        return bytes([token]) if token < 256 else b""
