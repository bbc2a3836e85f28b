"""Sequences that could run, and wait for a prefix to be read from disk.

Reading takes milliseconds a thousand tokens, and computing them seconds; so whoever gains waits, and everybody
else goes on. Not before it is their turn: what is read would push each other out of memory where many wait.
A prefix that turns out damaged lets its sequences go as well: then they are computed.
"""

from __future__ import annotations

from engine.disk.directory import DiskPrefix
from engine.disk.tier import DiskTier, Fetched
from engine.prefix_cache import PrefixCache
from engine.prefix_store import PrefixStore
from engine.sequence import Phase, Sequence


class PrefixFetcher:
    """Owned by the worker's engine thread."""

    def __init__(self, disk: DiskTier, store: PrefixStore, cache: PrefixCache, *, slot_tokens: int) -> None:
        self._disk = disk
        self._store = store
        self._cache = cache
        self._slot_tokens = slot_tokens
        self._held: dict[DiskPrefix, list[Sequence]] = {}
        self._served: set[Sequence] = set()
        """Those that have waited, and are not to wait again, whatever became of what was read."""

    @property
    def waiting(self) -> int:
        """Sequences that are held back."""
        return sum(map(len, self._held.values()))

    def hold(self, sequence: Sequence) -> bool:
        """Whether ``sequence`` waits for a prefix now, since disk has more of its prompt than memory."""
        if sequence in self._served:
            self._served.remove(sequence)
            return False
        prompt, scope = sequence.prompt, sequence.scope
        _, held = self._cache.match(prompt, scope)
        if (stored := self._store.match(prompt, scope)) is not None:
            held = max(held, stored.shared(prompt))
        prefix = self._disk.match(
            prompt, scope, held=held, most_tokens=self._slot_tokens, most_bytes=self._store.limit_bytes
        )
        if prefix is None:
            return False
        if prefix not in self._held:
            self._held[prefix] = []
            self._disk.fetch(prefix)
        self._held[prefix].append(sequence)
        return True

    def withdraw(self, sequence: Sequence) -> bool:
        """End ``sequence`` if it is held back; False if it is not. It is over in any case."""
        self._served.discard(sequence)
        for sequences in self._held.values():
            if sequence in sequences:
                sequences.remove(sequence)
                sequence.phase = Phase.FINISHED
                return True
        return False

    def take(self, fetched: Fetched) -> list[Sequence]:
        """Put what was read into memory; return the sequences that waited for it."""
        sequences = self._held.pop(fetched.prefix, [])
        if fetched.state is not None and sequences:
            # One prefix is of one scope, and so is whoever waits for it.
            self._store.put(fetched.prefix.tokens, sequences[0].scope, fetched.state)
        self._served.update(sequences)
        return sequences
