"""Memory for distributions over a whole vocabulary, so that no token costs an allocation of megabytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.native.vocabulary_scan import exponentials

_COLUMNS = 1024


class Scratch:
    """Three rows of a vocabulary's size, shared by every sampler of an engine thread.

    The first is also a matrix of 1,024 columns: numpy adds rows of a matrix at the speed of memory, and a sum
    along a row three times as slowly. Not BLAS, whose threads would spin beside the model's.
    """

    def __init__(self, vocabulary_size: int) -> None:
        padded = -(-vocabulary_size // _COLUMNS) * _COLUMNS
        self._padded = np.zeros(padded, dtype=np.float32)
        self.weights = self._padded[:vocabulary_size]
        """Shape (v,). What lies behind it, up to a whole row of the matrix, stays zero."""
        self.matrix = self._padded.reshape(-1, _COLUMNS)
        """``weights`` as rows; token ``t`` is at row ``t // columns``, column ``t % columns``."""
        self.other = np.empty(vocabulary_size, dtype=np.float32)
        """Shape (v,)."""
        self.kept = np.empty(vocabulary_size, dtype=np.float32)
        """Shape (v,). Logits as the model gave them, of a place whose token is to be scored. No sampler uses it."""

    def weigh(self, logits: npt.NDArray[np.float32], peak: float) -> float:
        """Make ``weights`` exp of ``logits`` less ``peak``, shape (v,), and return their sum."""
        return exponentials(logits, peak, self.weights)

    def column_sums(self) -> npt.NDArray[np.float32]:
        """Sums of the columns of ``matrix``, shape (columns,)."""
        sums: npt.NDArray[np.float32] = np.add.reduce(self.matrix, axis=0)
        return sums
