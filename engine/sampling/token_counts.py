"""How often each token was seen, as arrays that a penalty applies at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.sampling.candidates import Ids


class TokenCounts:
    """A multiset of tokens: adding and removing take a moment whatever its size."""

    def __init__(self) -> None:
        self._index: dict[int, int] = {}
        self._ids = np.empty(64, dtype=np.intp)
        self._counts = np.zeros(64, dtype=np.float32)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def ids(self) -> Ids:
        """The tokens that are in it, each once, in no order: shape (k,)."""
        return self._ids[: len(self._index)]

    @property
    def counts(self) -> npt.NDArray[np.float32]:
        """How often each of ``ids`` is in it, shape (k,)."""
        return self._counts[: len(self._index)]

    def add(self, token: int) -> None:
        index = self._index.get(token)
        if index is not None:
            self._counts[index] += 1.0
            return
        index = len(self._index)
        if index == self._ids.size:
            self._ids = np.resize(self._ids, 2 * index)
            self._counts = np.resize(self._counts, 2 * index)
        self._index[token] = index
        self._ids[index] = token
        self._counts[index] = 1.0

    def remove(self, token: int) -> None:
        """Take one ``token`` out, which must be there."""
        index = self._index[token]
        self._counts[index] -= 1.0
        if self._counts[index] > 0.0:
            return
        last = len(self._index) - 1
        moved = int(self._ids[last])
        self._ids[index], self._counts[index] = moved, self._counts[last]
        self._index[moved] = index
        del self._index[token]
