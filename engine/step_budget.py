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
_CHECK_SHARE = 1.25
"""What checking a draft takes, as a share of a token of a prompt, until that is measured: it has logits to compute."""
_DECODE_SHARE = 0.8
"""The same, as a share of what one decode more makes a step longer, beside many of which it is computed alike."""
_WEIGHTY_DRAFTS = 8
_OBLIVION = 0.01
"""How fast what checking a draft was seen to cost is forgotten, per step without one."""
_PROBE_STEPS = 100
"""Steps without a draft after which one is checked whatever it is thought to cost: what is thought may be wrong, and
nothing else would tell. At most a hundredth of the time, and mostly less: only a text that repeats itself has a draft.
"""
_MARGIN = 0.7
"""Share of the target that is planned for: steps vary by some 10 %, of many the longest counts, and what is learnt
lags behind attention, which grows with position (at 0.8, steps of 250 ms were planned as 200 while 1800 tokens were
read)."""
_SHORT_MARGIN = 0.85
_SHORT_STEPS = 2
"""A prompt that is read in so few steps may come nearer to the target: seldom is the odd long one among them."""


class StepBudget:
    """Learns step times and turns a target gap into a number of tokens. Owned by the worker's engine thread."""

    def __init__(self, *, target_s: float, minimum: int = 16, steady: int = 96, maximum: int = 512) -> None:
        self.target_s = target_s
        self._minimum = minimum
        self._steady = steady
        self._maximum = maximum
        self._prefill_token_s: float | None = None
        self._decode_s: dict[int, float] = {}
        self._check_token_s: dict[int, float] = {}
        """By the bits of the width: beside many decodes a draft takes longer than beside none."""
        self._unchecked_steps: dict[int, int] = {}
        """Steps without a draft since the last with one, by the bits of the width too."""

    def prefill_tokens(
        self, *, decode_width: int, oldest_pending: int, oldest_read: int = 0, sets: int = 1
    ) -> int:
        """Prompt tokens for the next step, beside ``decode_width`` decoding sequences.

        The oldest prompt has ``oldest_pending`` tokens left, and ``oldest_read`` were read in steps before this one.
        ``sets`` take turns (see ``engine.adapter_turns``), and the step has the share of one: others wait for it.

        With no stream to keep waiting, the oldest prompt is read in as few steps as possible, but not together with
        younger ones: it would wait for them, and its first token comes first.
        """
        if decode_width == 0 and sets == 1:
            return min(self._maximum, max(self._steady, oldest_pending))
        if self._prefill_token_s is None:
            return max(self._minimum, self._steady // sets)
        decode_s = self.decode_s(decode_width) if decode_width else 0.0

        def fitting(margin: float, token_s: float) -> int:
            tokens = int((margin * self.target_s / sets - decode_s) / token_s)
            return max(self._minimum, min(tokens, self._steady))

        short = fitting(_SHORT_MARGIN, self._prefill_token_s)
        # The end of a long one is no short one: it is where attention takes longest.
        if oldest_pending + oldest_read <= _SHORT_STEPS * short:
            return short
        return fitting(_MARGIN, self._prefill_token_s)

    def draft_cost(self, decode_width: int) -> float:
        """What one more token in a step of ``decode_width`` costs, as a share of what decoding one costs there."""
        decode_s = self.decode_s(decode_width)
        check_s = self._check_s(decode_width)
        if check_s is None or decode_s == 0.0:
            return _UNKNOWN_DRAFT_COST
        return check_s / (decode_s / decode_width)

    def draft_tokens(self, decode_width: int) -> int:
        """Drafts that a step of ``decode_width`` has time to check: they too keep running streams waiting."""
        check_s = self._check_s(decode_width)
        if check_s is None:
            return self._minimum
        return max(0, int((_MARGIN * self.target_s - self.decode_s(decode_width)) / check_s))

    def is_probe_due(self, decode_width: int) -> bool:
        """Whether a step of ``decode_width`` should check a draft only to learn what that costs."""
        return self._unchecked_steps.get(decode_width.bit_length(), 0) >= _PROBE_STEPS

    def take_probe(self, decode_width: int) -> None:
        """Such a step comes now."""
        self._unchecked_steps[decode_width.bit_length()] = 0

    def _check_s(self, decode_width: int) -> float | None:
        """Seconds that checking a draft takes. Few take longer each than many; until measured, it is a guess."""
        measured = self._check_token_s.get(decode_width.bit_length())
        return self._guessed_check_s(decode_width) if measured is None else measured

    def _guessed_check_s(self, decode_width: int) -> float | None:
        if self._prefill_token_s is None:
            return None
        guess = _CHECK_SHARE * self._prefill_token_s
        if decode_width > 1 and 1 in self._decode_s:
            one_more_s = (self.decode_s(decode_width) - self._decode_s[1]) / (decode_width - 1)
            guess = max(guess, _DECODE_SHARE * one_more_s)
        return guess

    @property
    def token_s(self) -> float:
        """Seconds that a token of a prompt takes; 0 is not known yet."""
        return self._prefill_token_s or 0.0

    def decode_s(self, width: int) -> float:
        """Seconds that a step of ``width`` decodes takes; 0 is not known yet.

        Between two widths known it is in between, and beyond all of them as at the nearest.
        """
        if width in self._decode_s:
            return self._decode_s[width]
        below = max((known for known in self._decode_s if known < width), default=None)
        above = min((known for known in self._decode_s if known > width), default=None)
        if below is None or above is None:
            nearest = above if below is None else below
            return 0.0 if nearest is None else self._decode_s[nearest]
        share = (width - below) / (above - below)
        return self._decode_s[below] + share * (self._decode_s[above] - self._decode_s[below])

    def drafting_s(self, *, decode_width: int, drafting: int, drafts: int) -> float:
        """Seconds that a step takes in which ``drafting`` of its decodes check ``drafts`` tokens together.

        Where those are not all, they are computed in a pass of their own, which reads all weights again.
        """
        return self._passes_s(decode_width, drafting) + drafts * (self._check_s(decode_width) or 0.0)

    def _passes_s(self, decode_width: int, drafting: int) -> float:
        """Seconds that the decodes of a step take, of which ``drafting`` are longer than the others."""
        if drafting == decode_width:
            return self.decode_s(decode_width)
        return self.decode_s(drafting) + self.decode_s(decode_width - drafting)

    def learn(self, *, decode_width: int, prefill_tokens: int, elapsed_s: float) -> None:
        """Take in the measured time of one step."""
        if prefill_tokens == 0:
            self._decode_s[decode_width] = _blend(self._decode_s.get(decode_width), elapsed_s)
            bits = decode_width.bit_length()
            self._unchecked_steps[bits] = self._unchecked_steps.get(bits, 0) + 1
            if bits in self._check_token_s and (guess := self._guessed_check_s(decode_width)) is not None:
                # A few odd measurements may end the drafting, and then nothing would ever mend them.
                self._check_token_s[bits] += _OBLIVION * (guess - self._check_token_s[bits])
        elif prefill_tokens >= _MINIMUM_LEARNT:
            spent_s = max(elapsed_s - self.decode_s(decode_width), 0.0) if decode_width else elapsed_s
            token_s = max(spent_s / prefill_tokens, _LEAST_TOKEN_S)
            self._prefill_token_s = _blend(self._prefill_token_s, token_s)

    def learn_check(
        self, *, decode_width: int, drafts: int, elapsed_s: float, drafting: int | None = None
    ) -> None:
        """Take in the measured time of a step that computed ``drafts`` beside its decodes, and nothing else.

        ``drafting`` of them did so in a pass of their own; None is that all were in one pass.
        """
        self._unchecked_steps[decode_width.bit_length()] = 0
        passes_s = self._passes_s(decode_width, drafting or decode_width)
        token_s = max((elapsed_s - passes_s) / drafts, _LEAST_TOKEN_S)
        # The difference of two steps, by few drafts, says little.
        self._check_token_s[decode_width.bit_length()] = _blend(
            self._check_s(decode_width), token_s, weight=min(1.0, drafts / _WEIGHTY_DRAFTS)
        )


def _blend(known: float | None, measured: float, weight: float = 1.0) -> float:
    """A smoothed figure. One odd step (another process had the cores) moves it little, many move it all the way."""
    if known is None:
        return measured
    return known + weight * _SMOOTHING * (min(max(measured, known / _OUTLIER), known * _OUTLIER) - known)
