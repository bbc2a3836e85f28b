"""How many prompt tokens a step may compute, so that running streams never wait longer than they should.

Learnt from measured steps: a step takes about ``decode_s(width) + tokens * prefill_token_s``.
"""

from __future__ import annotations

_SMOOTHING = 0.2
_OUTLIER = 2.0
_MINIMUM_LEARNT = 16
"""Prefill chunks shorter than this say little about the time of a token."""
_LEAST_TOKEN_S = 1e-7
"""A step can measure as shorter than its decodes alone; no token takes nothing, and nothing divides by it."""
_UNKNOWN_DRAFT_COST = 0.5
_MARGIN = 0.8
"""Share of the target that is planned for, since steps vary by some 10 % and attention grows with position."""


class StepBudget:
    """Learns step times and turns a target gap into a number of tokens. Owned by the worker's engine thread."""

    def __init__(self, *, target_s: float, minimum: int = 16, steady: int = 96, maximum: int = 512) -> None:
        self._target_s = target_s
        self._minimum = minimum
        self._steady = steady
        self._maximum = maximum
        self._prefill_token_s: float | None = None
        self._decode_s: dict[int, float] = {}

    def prefill_tokens(self, *, decode_width: int, oldest_pending: int) -> int:
        """Prompt tokens for the next step, beside ``decode_width`` decoding sequences.

        With no stream to keep waiting, the oldest prompt (``oldest_pending`` tokens) is read in as few steps as
        possible, but not together with younger ones: it would wait for them, and its first token comes first.
        """
        if decode_width == 0:
            return min(self._maximum, max(self._steady, oldest_pending))
        if self._prefill_token_s is None:
            return self._steady
        left_s = _MARGIN * self._target_s - self._expected_decode_s(decode_width)
        fitting = int(left_s / self._prefill_token_s)
        return max(self._minimum, min(fitting, self._steady))

    def draft_cost(self, decode_width: int) -> float:
        """What one more token in a step of ``decode_width`` costs, as a share of what decoding one costs there."""
        decode_s = self._expected_decode_s(decode_width)
        if self._prefill_token_s is None or decode_s == 0.0:
            return _UNKNOWN_DRAFT_COST
        return self._prefill_token_s / (decode_s / decode_width)

    def _expected_decode_s(self, width: int) -> float:
        if width in self._decode_s:
            return self._decode_s[width]
        nearest = min(self._decode_s, key=lambda known: abs(known - width), default=None)
        return 0.0 if nearest is None else self._decode_s[nearest]

    def learn(self, *, decode_width: int, prefill_tokens: int, elapsed_s: float) -> None:
        """Take in the measured time of one step."""
        if prefill_tokens == 0:
            self._decode_s[decode_width] = _blend(self._decode_s.get(decode_width), elapsed_s)
        elif prefill_tokens >= _MINIMUM_LEARNT:
            spent_s = (
                max(elapsed_s - self._expected_decode_s(decode_width), 0.0) if decode_width else elapsed_s
            )
            token_s = max(spent_s / prefill_tokens, _LEAST_TOKEN_S)
            self._prefill_token_s = _blend(self._prefill_token_s, token_s)


def _blend(known: float | None, measured: float) -> float:
    """A smoothed figure. One odd step (another process had the cores) moves it little, many move it all the way."""
    if known is None:
        return measured
    return known + _SMOOTHING * (min(max(measured, known / _OUTLIER), known * _OUTLIER) - known)
