"""Prefixes that had to leave their slots, kept in the host's memory up to a limit. Pure: it remembers and decides.

Saving and restoring are copies of some microseconds a token, computing takes milliseconds; so whatever is evicted
is saved, unless it is short, stands elsewhere already, or nobody comes back for what is (``engine.prefix_worth``). A
prefix is found in its own scope alone, as in the slots.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from engine.backend import SlotState, Tokens

LEAST_SAVED = 64
"""Fewer tokens that stand nowhere else are not worth saving a slot for."""
HEAD_TOKENS = 16
"""Prefixes are looked up by so many first tokens; fewer in common are worth no copy anyway."""
_LEAST_GAIN = 16
_RESTORE_SHARE = 64
"""Restoring so many tokens takes less than computing one: 10 against 2500 microseconds for 135 M parameters."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredPrefix:
    """The state of a slot, the tokens that it holds, and the scope of the sequence that they were computed for."""

    tokens: Tokens
    scope: str
    state: SlotState = field(repr=False)

    def shared(self, prompt: Tokens) -> int:
        """How many tokens from the start ``prompt`` has in common with this."""
        return common_length(self.tokens, prompt)

    @property
    def least_gain(self) -> int:
        """Tokens that a restore must spare to be worth it; the whole is restored, whatever is cut off afterwards."""
        return max(_LEAST_GAIN, len(self.tokens) // _RESTORE_SHARE)


class LowerTier(Protocol):
    """Where prefixes go that memory has no room for. The real one is ``engine.disk.tier.DiskTier``."""

    def put(self, prefix: StoredPrefix) -> None:
        """Keep ``prefix``, which is dropped here. Must not block."""
        ...

    def refuse(self, prefix: StoredPrefix) -> None:
        """Forget ``prefix``, which turned out to be no good."""
        ...


class Worth(Protocol):
    """Whether it pays to save. The real one is ``engine.prefix_worth.PrefixWorth``."""

    def pays(self) -> bool:
        """Whether to save the next prefix that leaves its slot."""
        ...

    def saved(self, tokens: Tokens, elapsed_s: float, most_tokens: int) -> None:
        """It was saved in ``elapsed_s``, in memory that has room for ``most_tokens``."""
        ...

    def forgone(self, tokens: Tokens, scope: str) -> None:
        """It was not saved, since that did not pay."""
        ...

    def placed(self, prompt: Tokens, scope: str, shared: int, restored: int) -> None:
        """A ``prompt`` has a slot, and ``shared`` tokens of it are spared, ``restored`` of them by what was saved."""
        ...


class PrefixStore:
    """Saved prefixes, the least recently used dropped first. Owned by the worker's engine thread."""

    def __init__(self, limit_bytes: int, below: LowerTier | None = None, worth: Worth | None = None) -> None:
        """Without ``worth``, or with a tier ``below``, all is saved: what goes to the disk is for after a restart."""
        self.limit_bytes = limit_bytes
        self._below = below
        self._worth = worth if below is None else None
        self.used_bytes = 0
        # The first is the longest unused.
        self._prefixes: OrderedDict[int, StoredPrefix] = OrderedDict()
        self._by_head: dict[tuple[str, bytes], dict[int, StoredPrefix]] = {}
        self._token_bytes = 0.0

    def __len__(self) -> int:
        return len(self._prefixes)

    def prepare(self, tokens: Tokens, scope: str) -> bool:
        """Whether a slot with ``tokens``, which it loses now, should be saved. If so, room is made for that."""
        for prefix in self._candidates(tokens, scope):
            if len(prefix.tokens) >= len(tokens) and prefix.shared(tokens) == len(tokens):
                self._touch(prefix)
                return False
        expected = int(self._token_bytes * len(tokens))
        if expected > self.limit_bytes:
            return False
        if self._worth is not None and not self._worth.pays():
            self._worth.forgone(tokens, scope)
            return False
        self._drop_down_to(self.limit_bytes - expected)
        return True

    def save(self, tokens: Tokens, scope: str, state: SlotState, elapsed_s: float) -> None:
        """Keep what it was decided to ``prepare`` for, and what took ``elapsed_s`` to make."""
        if self._worth is not None:
            self._worth.saved(tokens, elapsed_s, self.limit_bytes * len(tokens) // len(state))
        self.put(tokens, scope, state)

    def placed(self, prompt: Tokens, scope: str, shared: int, restored: int) -> None:
        """A ``prompt`` has a slot, and ``shared`` tokens of it are spared, ``restored`` of them by what is here."""
        if self._worth is not None:
            self._worth.placed(prompt, scope, shared, restored)

    def put(self, tokens: Tokens, scope: str, state: SlotState) -> None:
        """Keep ``state``, of a slot that holds ``tokens``; shorter prefixes of the same tokens are dropped."""
        self._token_bytes = max(self._token_bytes, len(state) / len(tokens))
        if len(state) > self.limit_bytes:
            return
        for prefix in self._candidates(tokens, scope):
            if prefix.shared(tokens) == len(prefix.tokens):
                self.drop(prefix)
        self._drop_down_to(self.limit_bytes - len(state))
        prefix = StoredPrefix(tokens, scope, state)
        self._prefixes[id(prefix)] = prefix
        self._by_head.setdefault((scope, _head(tokens)), {})[id(prefix)] = prefix
        self.used_bytes += len(state)

    def match(self, prompt: Tokens, scope: str) -> StoredPrefix | None:
        """The prefix in ``scope`` that shares most with ``prompt``, if any shares enough to be looked up."""
        return max(self._candidates(prompt, scope), key=lambda prefix: prefix.shared(prompt), default=None)

    def take(self, prefix: StoredPrefix) -> SlotState:
        """The state of ``prefix``, which counts as used."""
        self._touch(prefix)
        return prefix.state

    @property
    def newest_first(self) -> list[StoredPrefix]:
        """Every prefix, the most recently used first."""
        return list(reversed(self._prefixes.values()))

    def refuse(self, prefix: StoredPrefix) -> None:
        """Forget ``prefix``, here and below: it could not be restored."""
        self.drop(prefix)
        if self._below is not None:
            self._below.refuse(prefix)

    def drop(self, prefix: StoredPrefix) -> None:
        """Forget ``prefix``, if it is still there."""
        if self._prefixes.pop(id(prefix), None) is None:
            return
        head = (prefix.scope, _head(prefix.tokens))
        del self._by_head[head][id(prefix)]
        if not self._by_head[head]:
            del self._by_head[head]
        self.used_bytes -= len(prefix.state)

    def _drop_down_to(self, limit_bytes: int) -> None:
        while self._prefixes and self.used_bytes > limit_bytes:
            prefix = next(iter(self._prefixes.values()))
            self.drop(prefix)
            if self._below is not None:
                self._below.put(prefix)

    def _touch(self, prefix: StoredPrefix) -> None:
        if id(prefix) in self._prefixes:
            self._prefixes.move_to_end(id(prefix))

    def _candidates(self, tokens: Tokens, scope: str) -> list[StoredPrefix]:
        return list(self._by_head.get((scope, _head(tokens)), {}).values())


def _head(tokens: Tokens) -> bytes:
    return tokens[:HEAD_TOKENS].tobytes()


def common_length(one: Tokens, other: Tokens) -> int:
    """How many tokens from the start ``one`` and ``other`` have in common."""
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    first = int(differs.argmax()) if length else 0
    return first if length and differs[first] else length
