"""Guessing the tokens to come by looking them up: in what was written so far, and in what the client predicts.

Text that repeats itself (an edit of code, a quotation) repeats for long stretches. Where the newest tokens were
seen before, what followed them then is drafted now; the model checks all drafts in one step, and a wrong one
costs its computation and nothing else. So a draft is as long as it is likely to pay, and mostly none.
"""

from __future__ import annotations

import math

import numpy as np

from engine.backend import Tokens
from engine.trust import Trust

NO_DRAFTS: Tokens = np.empty(0, dtype=np.int32)
_LEAST_MATCH = 3
"""Newest tokens that must have been seen before, in this order, to trust what followed them."""
_LONGEST_MATCH = 8
_LONGEST_DRAFT = 24
_FIRST_TRUST = 0.8
_RESTING_TRUST = 0.5
_MEMORY_TOKENS = 8.0
_RECOVERY = 0.02
"""How fast trust that was lost comes back, per step without a draft."""


class Drafter:
    """Drafts for one sequence, and learns how often they come true. Owned by the worker's engine thread."""

    __slots__ = ("_prediction", "_trust")

    def __init__(self, prediction: Tokens = NO_DRAFTS) -> None:
        """``prediction`` is what the client expects the answer to be, or nothing."""
        self._prediction = prediction
        self._trust = Trust(_FIRST_TRUST, _MEMORY_TOKENS)

    @property
    def trust(self) -> float:
        """Learnt probability that a drafted token comes true, given that the one before it did."""
        return self._trust.value

    def hope(self, drafts: int) -> float:
        """How many of so many drafts are expected to come true."""
        return self._trust.hope(drafts)

    def draft(self, tokens: Tokens, prompt_length: int, *, most: int, token_cost: float) -> Tokens:
        """What may follow ``tokens``; often nothing, never more than ``most``.

        ``token_cost`` is what checking one more token costs, as a share of what decoding one costs: the k-th draft
        pays if it is reached and true with at least that probability, so k is where trust ** k falls below it.
        """
        length = min(most, _LONGEST_DRAFT, self._paying_length(token_cost))
        if length > 0:
            drafts = self._look_up(tokens, prompt_length, length)
            if drafts.size:
                return drafts
        self._trust.value += _RECOVERY * max(0.0, _RESTING_TRUST - self.trust)
        return NO_DRAFTS

    def _paying_length(self, token_cost: float) -> int:
        if token_cost >= 1.0 or self.trust <= token_cost:
            return 0
        return (
            int(math.log(token_cost) / math.log(min(self.trust, 0.99))) if token_cost > 0 else _LONGEST_DRAFT
        )

    def _look_up(self, tokens: Tokens, prompt_length: int, length: int) -> Tokens:
        if self._prediction.size:
            answer = tokens[prompt_length:]
            if not answer.size:
                return self._prediction[:length]
            # The client says what comes, so one token is enough to find the place again after a difference.
            end = find_match(self._prediction, answer, least=1)
            if end is not None and end < self._prediction.size:
                return self._prediction[end : end + length]
        end = find_match(tokens[:-1], tokens, least=_LEAST_MATCH)
        # Where the text ends, its repetition goes on: three words that come again and again make long drafts.
        return NO_DRAFTS if end is None else np.resize(tokens[end:], length)

    def learn(self, drafted: int, accepted: int) -> None:
        """Take in that the first ``accepted`` of ``drafted`` tokens came true."""
        self._trust.learn(drafted, accepted)


def find_match(corpus: Tokens, tokens: Tokens, *, least: int) -> int | None:
    """Index in ``corpus`` behind the longest end of ``tokens`` that occurs there, the latest if there are several.

    None if fewer than ``least`` tokens match. Looks at no more than ``_LONGEST_MATCH`` of them.
    """
    reach = min(_LONGEST_MATCH, len(tokens), len(corpus))
    if reach < least:
        return None
    ends = np.flatnonzero(corpus == tokens[-1])
    matched = 1 if ends.size else 0
    while matched and matched < reach:
        longer = ends[ends >= matched]
        longer = longer[corpus[longer - matched] == tokens[-1 - matched]]
        if not longer.size:
            break
        ends, matched = longer, matched + 1
    return int(ends[-1]) + 1 if matched >= least else None
