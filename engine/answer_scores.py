"""The log-probabilities of one answer, told together with the text that they belong to."""

from __future__ import annotations

from collections import deque

from engine.backend import Logits
from engine.token_logprob import TokenLogprob
from engine.token_scorer import TokenScorer


class AnswerScores:
    """Scores each token of a sequence as it is drawn, and holds it until its text is sent.

    For each token: ``keep`` the logits as the model gave them, since sampling changes them; then ``add`` the token
    that was drawn, or ``add_end``. ``take`` goes with every piece. Owned by the worker's engine thread.
    """

    __slots__ = ("_base", "_held", "_is_told", "_read", "_scored", "_scorer", "_sent", "_total")

    def __init__(self, scorer: TokenScorer, *, is_told: bool, base: int = 0) -> None:
        """``base`` is the length of what is echoed before the answer, in characters.

        ``is_told`` False is an answer that is only ranked: its mean is wanted, and no token of it.
        """
        self._scorer = scorer
        self._is_told = is_told
        self._base = base
        self._read = self._sent = 0
        # Each with the number of characters up to its end.
        self._held: deque[tuple[TokenLogprob, int]] = deque()
        self._total = 0.0
        self._scored = 0

    @property
    def mean(self) -> float:
        """The mean log-probability of all tokens that were drawn, one that ended the answer included."""
        return self._total / self._scored if self._scored else 0.0

    def keep(self, logits: Logits) -> None:
        """Remember ``logits``, shape (v,), of the token to come."""
        self._scorer.scratch.kept[:] = logits

    def add(self, token: int, characters: int) -> None:
        """Take in the token that was drawn, which completed so many ``characters`` of text."""
        scored = self._score(token)
        self._read += characters
        if self._is_told:
            self._held.append((scored, self._read))

    def add_end(self, token: int) -> None:
        """Take in a token that ended the answer, and is no part of it."""
        self._score(token)

    def _score(self, token: int) -> TokenLogprob:
        scored = self._scorer.score(self._scorer.scratch.kept, token, self._base + self._read)
        self._total += scored.logprob or 0.0
        self._scored += 1
        return scored

    def take(self, characters: int, *, is_last: bool, is_cut: bool) -> tuple[TokenLogprob, ...] | None:
        """The tokens whose text is sent with a piece of so many ``characters``; None if none are to be told.

        With the last piece come all that are left. Where a stop string cuts the text (``is_cut``), the tokens that
        begin behind the cut are no part of the answer, and are dropped.
        """
        if not self._is_told:
            return None
        self._sent += characters
        taken: list[TokenLogprob] = []
        while self._held:
            scored, end = self._held[0]
            has_begun = scored.offset - self._base < self._sent
            # A token that makes no text yet waits for more: it may be the first byte of a stop string.
            is_sent = has_begun or not is_cut if is_last else has_begun and end <= self._sent
            if not is_sent:
                break
            taken.append(scored)
            self._held.popleft()
        return tuple(taken)
