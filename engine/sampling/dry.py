"""DRY, Don't Repeat Yourself: tokens that would make a repeat longer are made unlikely, the more the longer it is.

The formula is llama.cpp's (src/llama-sampler.cpp, after koboldcpp's). It searches the history anew at each token;
here each token updates, for every distance back, how many tokens repeat at that distance, which is one pass of
numpy over the window.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from engine.sampling.breakers import NO_BREAKERS, Breakers
from engine.sampling.candidates import Logits
from engine.sampling.params import SamplingParams

_MAX_EXPONENT_OF_E = 88.7228391
"""Logarithm of the largest float32: llama.cpp lets no power get past it."""
_MOST = 1e9
"""More than this is no different from a ban, and its square still fits a float32."""


class Dry:
    """The last tokens of one sequence, prompt included, and the repeats in them. Owned by the engine thread."""

    def __init__(
        self, params: SamplingParams, prompt: npt.NDArray[np.int32], breakers: Breakers = NO_BREAKERS
    ) -> None:
        self._multiplier = params.dry_multiplier
        self._base = params.dry_base
        self._allowed = params.dry_allowed_length
        self._window = params.dry_penalty_last_n if params.dry_penalty_last_n >= 0 else 2**62
        self._breakers = breakers
        known = prompt[-self._window :]
        self._count = known.size
        self._tokens = np.empty(max(256, 2 * known.size), dtype=np.int32)
        self._tokens[: known.size] = known
        # Entry k - 1: how many of the newest tokens are, one by one, the same as those k places before them.
        self._repeats = np.zeros(self._tokens.size, dtype=np.int32)
        if known.size > 1:
            self._repeats[: known.size - 1] = _common_suffixes(known.tolist())
        self._break_start, self._break_length = -1, 0
        for end in range(known.size):
            self._note_break(end)

    @staticmethod
    def is_needed(params: SamplingParams) -> bool:
        return bool(params.dry_multiplier and params.dry_penalty_last_n)

    def accept(self, token: int) -> None:
        """Add a token to the history."""
        if self._count == self._tokens.size:
            self._make_room()
        self._tokens[self._count] = token
        repeats = self._repeats[: min(self._count, self._window)]
        repeats += 1
        repeats *= self._tokens[self._count - repeats.size : self._count][::-1] == token
        self._count += 1
        self._note_break(self._count - 1)

    def apply(self, logits: Logits) -> None:
        """Lower ``logits``, shape (v,), in place, of each token that would continue a repeat."""
        width = min(self._count, self._window)
        limit = self._longest_unbroken(width)
        if width <= self._allowed or limit < self._allowed:
            return
        repeats = self._repeats[: width - 1]
        distances = np.flatnonzero(repeats >= self._allowed) + 1
        # No repeat begins before the window, nor before the newest breaker.
        lengths = np.minimum(np.minimum(repeats[distances - 1], width - distances), limit)
        is_long = lengths >= self._allowed
        distances, lengths = distances[is_long], lengths[is_long]
        if distances.size == 0:
            return
        ids, lengths = _longest_by_token(self._tokens[self._count - distances], lengths)
        free = ~self._breakers.single[ids] if self._breakers.single.size else slice(None)
        logits[ids[free]] -= self._cost(lengths[free])

    def _cost(self, lengths: npt.NDArray[np.int32]) -> Logits:
        exponents = lengths - self._allowed
        if self._base > 1.000001:
            exponents = np.minimum(exponents, int(_MAX_EXPONENT_OF_E / math.log(self._base)))
        return np.minimum(self._multiplier * np.power(self._base, exponents), _MOST).astype(np.float32)

    def _longest_unbroken(self, width: int) -> int:
        """How many of the newest tokens come after the newest breaker, or ``width`` if it has none."""
        back = self._count - 1 - self._break_start
        return back - self._break_length if self._break_start >= 0 and back < width else width

    def _note_break(self, end: int) -> None:
        """See whether a breaker ends at ``end``. The one that starts last counts; of those, the longest."""
        breakers = self._breakers
        if not breakers.single.size:
            return
        if breakers.single[self._tokens[end]]:
            self._break_start, self._break_length = end, 0
        for length in breakers.tail_lengths:
            start = end - length
            if start < self._break_start or start < 0:
                break  # lengths rise, so starts fall
            tails = breakers.tails.get(int(self._tokens[start]))
            if (
                tails
                and (start, length) > (self._break_start, self._break_length)
                and tuple(self._tokens[start + 1 : end + 1].tolist()) in tails
            ):
                self._break_start, self._break_length = start, length

    def _make_room(self) -> None:
        """Drop what is past the window if that makes enough room, and double the room otherwise."""
        if 2 * self._window <= self._tokens.size:
            gone = self._count - self._window
            self._tokens[: self._window] = self._tokens[gone : self._count].copy()
            self._repeats[self._window :] = 0
            self._count = self._window
            self._break_start = max(-1, self._break_start - gone)
            return
        self._tokens = np.concatenate([self._tokens, np.empty_like(self._tokens)])
        self._repeats = np.concatenate([self._repeats, np.zeros_like(self._repeats)])


def _longest_by_token(
    tokens: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Each of ``tokens`` once, and the largest of its ``lengths``."""
    order = np.lexsort((lengths, tokens))
    tokens, lengths = tokens[order], lengths[order]
    is_last = np.append(tokens[1:] != tokens[:-1], True)
    return tokens[is_last], lengths[is_last]


def _common_suffixes(tokens: list[int]) -> list[int]:
    """For each distance from 1 on, how many of the last tokens repeat at that distance (the Z-algorithm, reversed)."""
    tokens = tokens[::-1]
    count = len(tokens)
    lengths = [0] * count
    left = right = 0
    for at in range(1, count):
        length = min(right - at, lengths[at - left]) if at < right else 0
        while at + length < count and tokens[length] == tokens[at + length]:
            length += 1
        if at + length > right:
            left, right = at, at + length
        lengths[at] = length
    return lengths[1:]
