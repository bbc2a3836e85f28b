"""Which tokens are allowed, as bits, and how those bits reach logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.backend import Logits

Bits = npt.NDArray[np.int32]
"""One bit a token, lowest first, shape (ceil(v / 32),)."""
_MINUS_INFINITY = np.float32(-np.inf)


class Mask:
    """Turns bits into -inf. ``apply`` belongs to the engine thread: its scratch memory is shared by all constraints.

    Eight tokens at a time are looked up in a table of 256 rows and added: 20 microseconds for 49 thousand tokens
    whatever the bits are, where boolean indexing takes 20 to 200.
    """

    def __init__(self, size: int, ends: list[int]) -> None:
        self.size = size
        # An end token may stand behind the vocabulary, where a model has none.
        self.words = -(-max(size, max(ends) + 1) // 32)
        octets = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
        self._table = np.where(octets == 1, np.float32(0.0), _MINUS_INFINITY)
        self._rows = np.empty((self.words * 4, 8), dtype=np.float32)
        self._added = self._rows.reshape(-1)[:size]
        self._end_bits = np.zeros(self.words, dtype=np.int32)
        for end in ends:
            self._end_bits.view(np.uint8)[end // 8] |= np.uint8(1 << end % 8)
        self._end_words = np.flatnonzero(self._end_bits)
        self._end_bits = self._end_bits[self._end_words]

    def empty(self) -> Bits:
        return np.zeros(self.words, dtype=np.int32)

    def set_ends(self, bits: Bits, *, are_allowed: bool) -> None:
        """Allow every token that ends generation, or none."""
        if are_allowed:
            bits[self._end_words] |= self._end_bits
        else:
            bits[self._end_words] &= ~self._end_bits

    def apply(self, bits: Bits, logits: Logits) -> None:
        """Set the logits, shape (v,), of tokens without a bit to -inf, in place."""
        np.take(self._table, bits.view(np.uint8), axis=0, out=self._rows, mode="clip")
        np.add(logits, self._added, out=logits)
