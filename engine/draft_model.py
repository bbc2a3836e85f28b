"""A second, smaller model of the same vocabulary that guesses the tokens to come, for all sequences at once.

Its slots belong to the same sequences as those of the model it guesses for, and are brought up to date only when a
guess is wanted. What a slot holds is compared with what its sequence has become, and cut where they part: so
rejected guesses, forced tokens and slots that change hands need no word from anybody. Nothing that fails here
fails a request: it goes on without guesses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.backend import Backend, DecodeFailed, Tokens
from engine.prefix_cache import MINIMUM_SHARED
from engine.sequence import Sequence
from engine.step_budget import StepBudget

_logger = logging.getLogger("nibble.worker")
_MOST_FAILURES = 3
"""Failures in a row after which nothing is guessed any more."""


@dataclass(frozen=True, slots=True)
class Guess:
    """``count`` tokens are to be guessed for ``sequence``."""

    sequence: Sequence
    count: int


class DraftModel:
    """Keeps the draft model's slots, and guesses greedily. Owned by the worker's engine thread."""

    def __init__(
        self, backend: Backend, budget: StepBudget, *, clock: Callable[[], float], most_tokens: int
    ) -> None:
        """``budget`` is of this model's steps; ``most_tokens`` is how long a sequence may be to be guessed for."""
        self.most_tokens = min(most_tokens, backend.slot_tokens)
        self._backend = backend
        self._budget = budget
        self._clock = clock
        self._tokens = np.full((backend.slots, backend.slot_tokens), -1, dtype=np.int32)
        self._held = [0] * backend.slots
        """Tokens that each slot holds."""
        self._owners: list[Sequence | None] = [None] * backend.slots
        self._agreed = [0] * backend.slots
        """Of them, those that are known to be its owner's: what an owner has said does not change."""
        self._counting = np.arange(backend.slot_tokens, dtype=np.int32)
        self._failures = 0
        self._is_unknown = False
        """Whether a failure left nobody knows what in the slots."""

    @property
    def is_working(self) -> bool:
        return self._failures < _MOST_FAILURES

    @property
    def token_s(self) -> float:
        """Seconds that reading a token takes, of many; 0 is not known yet."""
        return self._budget.token_s

    def guess_s(self, width: int) -> float:
        """Seconds that one guess for each of ``width`` sequences takes; 0 is not known yet."""
        return self._budget.decode_s(width)

    def lag(self, sequence: Sequence) -> int:
        """Tokens of ``sequence`` that must be read before the first guess; the newest at least."""
        return sequence.length - self._agree(sequence)

    def guess(self, guesses: list[Guess]) -> None:
        """Set the drafts of each sequence, as many as asked for; none where there is more to read first."""
        try:
            self._empty_unknown()
            self._make_room(guesses)
            self._guess_on(self._catch_up(guesses))
        except DecodeFailed as error:
            self._is_unknown = True
            self._failures += 1
            _logger.warning(
                "the draft model failed, and %s: %s",
                "this step goes without" if self.is_working else "is not used any more",
                error,
            )
        else:
            self._failures = 0

    def _agree(self, sequence: Sequence) -> int:
        """How many tokens of ``sequence`` its slot holds, all but the newest at most; what it holds beside is stale."""
        slot = sequence.slot
        if self._owners[slot] is not sequence:
            if not _may_share(self._owners[slot], sequence):
                self._agreed[slot] = 0
                self._owners[slot] = None
                return 0
            self._owners[slot], self._agreed[slot] = sequence, 0
        self._agreed[slot] = self._common(slot, sequence, self._agreed[slot])
        return self._agreed[slot]

    def _common(self, slot: int, sequence: Sequence, start: int = 0) -> int:
        """How many tokens ``slot`` holds of ``sequence``, of which ``start`` are known to be the same."""
        end = min(self._held[slot], sequence.length - 1)
        differs = self._tokens[slot, start:end] != sequence.tokens[start:end]
        return start + int(differs.argmax()) if differs.any() else max(start, end)

    def _empty_unknown(self) -> None:
        if self._is_unknown:
            for slot in range(self._backend.slots):
                self._clear(slot)
            self._is_unknown = False

    def _clear(self, slot: int) -> None:
        self._held[slot] = self._agreed[slot] = 0
        self._owners[slot] = None
        self._backend.clear_slot(slot)

    def _make_room(self, guesses: list[Guess]) -> None:
        """In a pool, empty as many slots of others as the guesses need; all that run fit, as they do in the other."""
        pool_tokens = self._backend.pool_tokens
        if pool_tokens is None:
            return
        wanted = {guess.sequence.slot: guess.sequence.length + guess.count for guess in guesses}
        others = [slot for slot in range(self._backend.slots) if slot not in wanted]
        room = pool_tokens - sum(wanted.values()) - sum(self._held[slot] for slot in others)
        for slot in sorted(others, key=lambda slot: -self._held[slot]):
            if room >= 0:
                break
            room += self._held[slot]
            self._clear(slot)

    def _catch_up(self, guesses: list[Guess]) -> list[tuple[Guess, int]]:
        """Read what is missing, as much as a step has time for. Returns who is ready, with the first guess for each.

        Who misses least comes first, so that a long prompt keeps nobody else waiting. Who misses what is being read
        for another copies it the next time.
        """
        for guess in guesses:
            self._align(guess.sequence)
        fitting = self._budget.prefill_tokens(decode_width=len(guesses), oldest_pending=0)
        room = min(fitting, self._backend.batch_tokens)
        ready: list[Guess] = []
        at = 0
        for guess in sorted(guesses, key=lambda guess: self.lag(guess.sequence)):
            if at == room:
                break
            sequence = guess.sequence
            start = self._held[sequence.slot]
            if self._source(sequence, start) is not None:
                continue
            end = min(sequence.length, start + room - at)
            at = self._put(at, sequence, sequence.tokens[start:end], start)
            if end == sequence.length:
                self._backend.batch.wants_logits[at - 1] = 1
                ready.append(guess)
        return list(zip(ready, self._likeliest(at, len(ready)), strict=True))

    def _align(self, sequence: Sequence) -> None:
        """Leave in its slot what that holds of ``sequence``, or what another holds of it."""
        slot, agreed = sequence.slot, self._agree(sequence)
        if (found := self._source(sequence, agreed)) is not None:
            agreed, source = found
            self._backend.copy_slot(source, slot)
            self._tokens[slot] = self._tokens[source]
            self._held[slot] = self._held[source]
        if agreed == 0:
            self._clear(slot)
        elif agreed < self._held[slot]:
            self._backend.cut_slot(slot, agreed)
        self._held[slot] = self._agreed[slot] = agreed
        self._owners[slot] = sequence

    def _source(self, sequence: Sequence, held: int) -> tuple[int, int] | None:
        """How many tokens of ``sequence`` another slot holds, and which, if a copy pays beside ``held`` tokens."""
        least = held + MINIMUM_SHARED
        if sequence.length - 1 < least:
            return None
        others = (slot for slot, owner in enumerate(self._owners) if _may_share(owner, sequence))
        found = max(((self._common(slot, sequence), slot) for slot in others), default=(0, 0))
        return found if found[0] >= least else None

    def _guess_on(self, ready: list[tuple[Guess, int]]) -> None:
        """Guess behind the first guesses, one token for everybody at a time, and hand the guesses over."""
        # Who wants most comes first: those that want no more are at the end of each batch.
        ready.sort(key=lambda each: -each[0].count)
        drafts = [np.full(guess.count, first, dtype=np.int32) for guess, first in ready]
        for known in range(1, len(drafts[0]) if drafts else 0):
            going_on = sum(len(draft) > known for draft in drafts)
            for row in range(going_on):
                sequence = ready[row][0].sequence
                self._put(row, sequence, drafts[row][known - 1 : known], sequence.length + known - 1)
                self._backend.batch.wants_logits[row] = 1
            for row, token in enumerate(self._likeliest(going_on, going_on)):
                drafts[row][known] = token
        for (guess, _), draft in zip(ready, drafts, strict=True):
            guess.sequence.drafts = draft

    def _likeliest(self, count: int, outputs: int) -> list[int]:
        """Compute the batch, and learn what that takes. Returns the likeliest token behind each that wants logits."""
        began_s = self._clock()
        logits = self._backend.decode(count, outputs)
        tokens: list[int] = logits.argmax(axis=1).tolist() if outputs else []
        elapsed_s = self._clock() - began_s
        self._budget.learn(decode_width=outputs, prefill_tokens=count - outputs, elapsed_s=elapsed_s)
        return tokens

    def _put(self, at: int, sequence: Sequence, tokens: Tokens, start: int) -> int:
        """Write ``tokens`` of ``sequence``, from position ``start`` on, at index ``at``; return the next index."""
        batch, slot, end = self._backend.batch, sequence.slot, at + len(tokens)
        batch.token[at:end] = tokens
        batch.position[at:end] = self._counting[start : start + len(tokens)]
        batch.slot[at:end] = slot
        batch.wants_logits[at:end] = 0
        self._held[slot] = start + len(tokens)
        self._tokens[slot, start : self._held[slot]] = tokens
        return end


def _may_share(owner: Sequence | None, sequence: Sequence) -> bool:
    """Whether what ``owner`` has left may be used for ``sequence``, whose time would else tell of the other's text."""
    return owner is not None and owner.scope == sequence.scope
