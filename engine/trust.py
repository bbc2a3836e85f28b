"""How likely a drafted token comes true, learnt from those that did and did not."""

from __future__ import annotations


class Trust:
    """A smoothed share of drafts that came true. Owned by the worker's engine thread."""

    __slots__ = ("_memory_tokens", "value")

    def __init__(self, value: float, memory_tokens: float) -> None:
        self.value = value
        """Probability that a drafted token comes true, given that the one before it did."""
        self._memory_tokens = memory_tokens

    def hope(self, drafts: int) -> float:
        """How many of so many drafts are expected to come true: none behind a wrong one."""
        share = min(self.value, 0.999)
        return share * (1.0 - share**drafts) / (1.0 - share)

    def learn(self, drafted: int, accepted: int) -> None:
        """Take in that the first ``accepted`` of ``drafted`` tokens came true. Those behind a wrong one say nothing."""
        tried = accepted + (accepted < drafted)
        self.value = (self.value * self._memory_tokens + accepted) / (self._memory_tokens + tried)
