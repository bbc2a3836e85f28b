"""Whether it pays to save a prefix that leaves its slot: what of them came back, against what saving takes.

Saving is a copy, and memory that it is written to for the first time: on a virtual machine whose host has yet to find
the pages, 13 ms for 160 tokens of 135 M parameters, a fifth of a step, and 5 % of all time where many clients ask what
nobody asked before. A chat's next turn, on the other hand, is spared ten times that. So who saves everything loses in
the one case, and who saves nothing in the other.

What was not saved is remembered by its tokens alone, as many of them as there would be memory for: a prompt that begins
like one of these tells what was missed, and saving begins again (ghost entries, as in ARC: Megiddo and Modha, FAST
2003). Pure: it only counts and remembers.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from engine.backend import Tokens
from engine.prefix_store import PrefixStore

_OBLIVION = 1 / 128
"""Of what left and came back so far, what is forgotten with each prefix that leaves."""
_TRUSTED_PREFIXES = 4.0
"""As if so many, as long as the others, had left and come back before the first. So 47 prefixes are saved in vain where
saving takes a fifteenth of computing, and 180 where it takes a hundredth, however long they are."""
_PROBE = 64
"""Of so many prefixes that are not worth it one is saved all the same: what saving takes may have changed."""
_SMOOTHING = 0.2
_TOKEN_BYTES = np.dtype(np.int32).itemsize


class TokenTime(Protocol):
    """What is spared. The real one is ``engine.step_budget.StepBudget``."""

    @property
    def token_s(self) -> float:
        """Seconds that a token of a prompt takes to compute; 0 is not known yet."""
        ...


class PrefixWorth:
    """Owned by the worker's engine thread."""

    def __init__(self, time: TokenTime) -> None:
        self._time = time
        self._trusted_prefixes = _TRUSTED_PREFIXES
        self._left_prefixes = self._left_tokens = self._returned_tokens = 0.0
        self._save_token_s = 0.0
        self._forgone = 0
        self._ghosts = PrefixStore(0)

    def pays(self) -> bool:
        """Whether to save the next prefix that leaves. To be told, in either case, what became of it."""
        if not self._save_token_s or not self._time.token_s:
            return True
        spared_s = self.returned_share * self._time.token_s
        return spared_s >= self._save_token_s or self._forgone >= _PROBE

    @property
    def returned_share(self) -> float:
        """Of the tokens that left lately, those that came back. More than 1 where many come back for the same."""
        if not self._left_prefixes:
            return 1.0
        trusted_tokens = self._trusted_prefixes * self._left_tokens / self._left_prefixes
        return (self._returned_tokens + trusted_tokens) / (self._left_tokens + trusted_tokens)

    def saved(self, tokens: Tokens, elapsed_s: float, most_tokens: int) -> None:
        """A prefix left and was saved in ``elapsed_s``, in memory that has room for ``most_tokens``."""
        self._leave(tokens)
        self._forgone = 0
        token_s = elapsed_s / len(tokens)
        known_s = self._save_token_s or token_s
        self._save_token_s = known_s + _SMOOTHING * (token_s - known_s)
        # No more is remembered than would be there if all had been saved.
        self._ghosts.limit_bytes = most_tokens * _TOKEN_BYTES

    def forgone(self, tokens: Tokens, scope: str) -> None:
        """A prefix left and was not saved."""
        self._leave(tokens)
        self._forgone += 1
        self._ghosts.put(tokens, scope, tokens.view(np.uint8))

    def placed(self, prompt: Tokens, scope: str, shared: int, restored: int) -> None:
        """A ``prompt`` has a slot, and ``shared`` tokens of it are spared, ``restored`` of them by what was saved."""
        ghost = None if restored else self._ghosts.match(prompt, scope)
        if ghost is not None:
            missed = min(ghost.shared(prompt), len(prompt) - 1) - shared
            restored = missed if missed >= ghost.least_gain else 0
        self._returned_tokens += restored

    def _leave(self, tokens: Tokens) -> None:
        self._trusted_prefixes -= _OBLIVION * self._trusted_prefixes
        self._left_prefixes += 1 - _OBLIVION * self._left_prefixes
        self._left_tokens += len(tokens) - _OBLIVION * self._left_tokens
        self._returned_tokens -= _OBLIVION * self._returned_tokens
