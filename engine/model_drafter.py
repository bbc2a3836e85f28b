"""Deciding, for one sequence, how far a draft model is to guess ahead: as far as that is likely to pay, mostly.

All costs are shares of what decoding one token costs, so a plain step costs one. A guess that is likely to pay is
made. One that is not is tried now and then, since texts change: each plain step saves up a small share of its
cost, and a trial waits until its whole cost is saved. So whatever the text, little is lost.
"""

from __future__ import annotations

from engine.trust import Trust

_LONGEST_GUESS = 16
_MEMORY_TOKENS = 8.0
_SAVED = 0.02
"""What each plain step saves up for a trial, as a share of its cost."""
_LIFT = 0.05


class ModelDrafter:
    """Learns how often the draft model is right about one sequence. Owned by the worker's engine thread."""

    __slots__ = ("_break_even", "_common", "_saved", "_trust")

    def __init__(self, common: Trust) -> None:
        """``common`` is what is known of all sequences: where this one starts, and learns for."""
        self._common = common
        self._trust = Trust(common.value, _MEMORY_TOKENS)
        self._saved = 0.0
        self._break_even = 0.0

    @property
    def trust(self) -> float:
        """Learnt probability that a token guessed by the draft model comes true, given that the one before it did."""
        return self._trust.value

    def length(self, *, most: int, token_cost: float, lag_cost: float, left: int) -> int:
        """How many tokens to guess; at most ``most``, and often none.

        ``token_cost`` is the cost of guessing one token and checking it, ``lag_cost`` that of reading what the draft
        model has not read yet, which must pay within ``left`` tokens.
        """
        self._break_even = token_cost
        length, gain = best_length(self.trust, token_cost, min(most, _LONGEST_GUESS))
        if length and lag_cost <= gain * left:
            return length
        # A guess that costs a token or more cannot pay, however right it is.
        return 1 if most > 0 and token_cost < 1.0 and self._saved > lag_cost + token_cost else 0

    def rest(self) -> None:
        """Take in that a step passed in which nothing was guessed."""
        self._saved += _SAVED

    def learn(self, drafted: int, accepted: int) -> None:
        """Take in that the first ``accepted`` of ``drafted`` tokens came true."""
        self._saved = 0.0
        was_trial = self.trust <= self._break_even
        self._common.learn(drafted, accepted)
        self._trust.learn(drafted, accepted)
        if was_trial and accepted:
            # A trial that succeeds is worth the next.
            self._trust.value = max(self.trust, min(1.0, self._break_even + _LIFT))


def best_length(trust: float, token_cost: float, most: int) -> tuple[int, float]:
    """The number of tokens to guess that makes the answer fastest, and the share of its time that this spares.

    With k guesses a step brings 1 + trust + ... + trust ** k tokens on average, and costs 1 + k * ``token_cost``
    (Leviathan et al., Fast Inference from Transformers via Speculative Decoding, 2023).
    """
    best, best_time = 0, 1.0
    tokens = reached = 1.0
    for length in range(1, most + 1):
        reached *= trust
        tokens += reached
        time = (1.0 + length * token_cost) / tokens
        if time >= best_time:
            # The time falls to one minimum, and rises from there.
            break
        best, best_time = length, time
    return best, 1.0 - best_time
