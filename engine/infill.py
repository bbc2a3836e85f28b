"""Filling in the middle: how a gap between two texts is put to a model that was trained to fill it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from engine.backend import Tokens


class InfillTokens(NamedTuple):
    """The tokens that say where a prefix and a suffix begin, and where the middle is to be written."""

    prefix: int
    suffix: int
    middle: int

    def arrange(self, beginning: Tokens, prefix: Tokens, suffix: Tokens) -> Tokens:
        """Prefix, suffix, middle: the order that llama.cpp's server writes, and models with these tokens learn.

        ``beginning`` is what the model wants before every text, often one token or none.
        """
        parts = (beginning, [self.prefix], prefix, [self.suffix], suffix, [self.middle])
        return np.concatenate([np.asarray(part, dtype=np.int32) for part in parts])
