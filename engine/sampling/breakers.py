"""Texts that no repeat goes across (DRY's sequence breakers), as the tokens that hold them.

A text may be a token, be inside one, or begin at the end of one and go on in the next; so the whole vocabulary is
searched, as bytes in one array. The rules are llama.cpp's (src/llama-sampler.cpp).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_LONGEST_TAIL = 20
_REMEMBERED = 8


@dataclass(frozen=True, slots=True, eq=False)
class Breakers:
    """``single``, shape (v,), tells which tokens hold a whole text (empty: there are no breakers at all).

    ``tails`` are the token sequences that complete a text behind a token that ends with its beginning;
    ``tail_lengths`` are their lengths, rising.
    """

    single: npt.NDArray[np.bool_]
    tails: dict[int, set[tuple[int, ...]]]
    tail_lengths: tuple[int, ...]


NO_BREAKERS = Breakers(np.zeros(0, dtype=np.bool_), {}, ())


class BreakerIndex:
    """Finds texts in one vocabulary. Owned by the thread that reads requests; what it returns is read-only."""

    def __init__(
        self, size: int, piece: Callable[[int], bytes], tokenize: Callable[[str], list[int]]
    ) -> None:
        """``piece`` gives the bytes of each of ``size`` tokens; both functions are only called when needed."""
        self._size = size
        self._piece = piece
        self._tokenize = tokenize
        self._bytes: npt.NDArray[np.uint8] | None = None
        self._ends = self._token_of = np.zeros(0, dtype=np.int32)
        self._known: dict[tuple[str, ...], Breakers] = {}

    def find(self, texts: tuple[str, ...]) -> Breakers:
        """The breakers that ``texts``, none of them empty, make together."""
        if not texts:
            return NO_BREAKERS
        found = self._known.get(texts)
        if found is None:
            found = self._find(texts)
            if len(self._known) == _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[texts] = found
        return found

    def _find(self, texts: tuple[str, ...]) -> Breakers:
        single = np.zeros(self._size, dtype=np.bool_)
        tails: dict[int, set[tuple[int, ...]]] = {}
        for text in texts:
            whole, parts = self._find_text(text.encode())
            single[whole] = True
            for head, tail in parts:
                tails.setdefault(head, set()).add(tail)
        lengths = sorted({len(tail) for some in tails.values() for tail in some})
        return Breakers(single, tails, tuple(lengths))

    def _find_text(self, text: bytes) -> tuple[npt.NDArray[np.int32], list[tuple[int, tuple[int, ...]]]]:
        """The tokens that hold ``text``, and those that end with its beginning, each with the tail that it needs."""
        raw = self._index()
        token_of, ends = self._token_of, self._ends
        at = np.flatnonzero(raw == text[0])
        partial: list[tuple[npt.NDArray[np.int32], tuple[int, ...]]] = []
        for length in range(1, len(text)):
            is_over = ends[token_of[at]] == at + length
            if (tail := self._tail(text[length:])) and is_over.any():
                partial.append((token_of[at[is_over]], tail))
            at = at[~is_over]
            at = at[raw[at + length] == text[length]]
        whole = np.unique(token_of[at])
        is_whole = np.zeros(self._size, dtype=np.bool_)
        is_whole[whole] = True
        return whole, [(head, tail) for heads, tail in partial for head in heads[~is_whole[heads]].tolist()]

    def _tail(self, rest: bytes) -> tuple[int, ...]:
        """The tokens of ``rest``; none if it begins within a character."""
        try:
            return tuple(self._tokenize(rest.decode())[:_LONGEST_TAIL])
        except UnicodeDecodeError:
            return ()

    def _index(self) -> npt.NDArray[np.uint8]:
        """The bytes of the vocabulary, one token behind another; made once, since that takes a moment."""
        if self._bytes is None:
            pieces = [self._piece(token) for token in range(self._size)]
            lengths = np.fromiter(map(len, pieces), dtype=np.int32, count=self._size)
            self._ends = np.cumsum(lengths, dtype=np.int32)
            self._token_of = np.repeat(np.arange(self._size, dtype=np.int32), lengths)
            self._bytes = np.frombuffer(b"".join(pieces), dtype=np.uint8)
        return self._bytes
