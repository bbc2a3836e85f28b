"""A backend that computes a hash instead of a model, and refuses whatever llama.cpp would die of or compute wrongly.

The logits of a row follow from every token that the row's slot really holds, so a wrong copy, cut or position
shows as a wrong token. ``logits_after`` gives the same logits for a whole sequence at once, for the slow model
that a test compares with.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from engine.adapter import Adapter
from engine.adapter_set import NO_ADAPTERS, AdapterSet
from engine.backend import Batch, DecodeFailed, SlotState

_MODULUS = (1 << 61) - 1
_FACTOR = 0x0BF58476D1CE4E5B
_PEAK = 12.0
_SPREAD = 997


_TOKENS = 1 << 10
_SALTS = 1 << 20


def salt_of(adapters: AdapterSet) -> int:
    """A number for ``adapters`` that goes into every state: what others computed is wrong here."""
    return zlib.crc32(repr(adapters.scales).encode()) % _SALTS if adapters.scales else 0


class Misuse(AssertionError):
    """Something was asked for that the real backend must never be asked for."""


class HashModel:
    """Logits as a function of a token sequence. ``alphabet`` holds the tokens that may be likeliest."""

    def __init__(self, vocabulary_size: int, alphabet: Sequence[int]) -> None:
        self.vocabulary_size = vocabulary_size
        self._alphabet = tuple(alphabet)
        self._ids = np.arange(vocabulary_size, dtype=np.int64)

    @staticmethod
    def state_after(tokens: Iterable[int], state: int = 1, salt: int = 0) -> int:
        for token in tokens:
            state = (state * _FACTOR + token + 1 + salt) % _MODULUS
        return state

    def logits(self, state: int) -> npt.NDArray[np.float32]:
        """Shape (vocabulary_size,): one clear peak within the alphabet, and a spread of other values."""
        mixed = (state ^ state >> 29) % 1_000_000_007
        row = ((self._ids * 7919 + mixed) % _SPREAD).astype(np.float32) / np.float32(_SPREAD / 4)
        row[self._alphabet[mixed % len(self._alphabet)]] = _PEAK
        return row

    def logits_after(
        self, tokens: Iterable[int], adapters: AdapterSet = NO_ADAPTERS
    ) -> npt.NDArray[np.float32]:
        return self.logits(self.state_after(tokens, salt=salt_of(adapters)))


class FakeBackend:
    """Implements ``engine.backend.Backend``. ``held`` lists the tokens of each slot."""

    def __init__(
        self,
        model: HashModel,
        *,
        slots: int = 4,
        slot_tokens: int = 128,
        pool_tokens: int | None = None,
        batch_tokens: int = 32,
        is_one_pass: bool = False,
        shares_prefixes: bool = True,
    ) -> None:
        self.model = model
        self.slots = slots
        self.slot_tokens = slot_tokens
        self.pool_tokens = pool_tokens
        self.batch_tokens = batch_tokens
        self.vocabulary_size = model.vocabulary_size
        self.output_rows = slots + 16
        self.is_one_pass = is_one_pass or pool_tokens is not None
        self.shares_prefixes = shares_prefixes
        # Garbage at first, as in memory that was never written: nobody may rely on zeros.
        self.batch = Batch(
            token=np.full(batch_tokens, -7, dtype=np.int32),
            position=np.full(batch_tokens, -7, dtype=np.int32),
            slot=np.full(batch_tokens, -7, dtype=np.int32),
            wants_logits=np.full(batch_tokens, 1, dtype=np.int8),
        )
        self.adapters = NO_ADAPTERS
        self.computed_with = NO_ADAPTERS
        """The adapters of the last step."""
        self.adapters_set = 0
        """How often adapters were set."""
        self.loaded = {0, 1}
        """Places of adapters that can be set."""
        self._freed: set[int] = set()
        self.held: list[list[int]] = [[] for _ in range(slots)]
        self._states: list[list[int]] = [[] for _ in range(slots)]
        self._salts: list[list[int]] = [[] for _ in range(slots)]
        """Of the adapters that each token was computed with."""
        self.steps: list[list[tuple[int, int]]] = []
        """For each computed step, how many tokens each slot in it got, in the order of the batch."""
        self.copies = self.saves = self.loads = 0
        self.fail_load: Callable[[], bool] = lambda: False
        self.fail_decode: Callable[[], bool] = lambda: False
        self.fail_transfer: Callable[[], bool] = lambda: False

    @property
    def computed(self) -> int:
        """Tokens computed since the beginning."""
        return sum(count for step in self.steps for _, count in step)

    def decode(self, count: int, outputs: int) -> npt.NDArray[np.float32]:
        if not 0 < count <= self.batch_tokens:
            raise Misuse(f"a batch of {count} tokens, of {self.batch_tokens} at most")
        self.computed_with = self.adapters
        entries = list(
            zip(
                self.batch.token[:count].tolist(),
                self.batch.position[:count].tolist(),
                self.batch.slot[:count].tolist(),
                self.batch.wants_logits[:count].tolist(),
                strict=True,
            )
        )
        self._check(entries, outputs)
        if self.fail_decode():
            raise DecodeFailed("as the test asked")
        rows = []
        step: list[tuple[int, int]] = []
        salt = salt_of(self.adapters)
        for token, _, slot, wants in entries:
            self._append(slot, token, salt)
            if step and step[-1][0] == slot:
                step[-1] = (slot, step[-1][1] + 1)
            else:
                step.append((slot, 1))
            if wants:
                rows.append(self.model.logits(self._states[slot][-1]))
        self.steps.append(step)
        return np.array(rows, dtype=np.float32).reshape(outputs, self.vocabulary_size)

    def _append(self, slot: int, token: int, salt: int) -> None:
        before = self._states[slot][-1] if self._states[slot] else 1
        self.held[slot].append(token)
        self._states[slot].append(self.model.state_after([token], before, salt))
        self._salts[slot].append(salt)

    def _check(self, entries: list[tuple[int, int, int, int]], outputs: int) -> None:
        ends = {slot: len(held) for slot, held in enumerate(self.held)}
        runs: list[int] = []
        for token, position, slot, _ in entries:
            if not 0 <= slot < self.slots:
                raise Misuse(f"slot {slot} is not one of {self.slots}")
            if not 0 <= token < self.vocabulary_size:
                raise Misuse(f"token {token} is outside the vocabulary")
            if position != ends[slot]:
                raise Misuse(f"slot {slot} holds {ends[slot]} tokens and is given position {position}")
            if position >= self.slot_tokens:
                raise Misuse(f"slot {slot} is full")
            ends[slot] += 1
            if not runs or runs[-1] != slot:
                runs.append(slot)
        # Each slot counts in full, as if copies shared no cells: the engine may not rely on how much they share.
        if self.pool_tokens is not None and sum(ends.values()) > self.pool_tokens:
            raise Misuse(f"{sum(ends.values())} tokens for a pool of {self.pool_tokens}")
        if len(set(runs)) != len(runs):
            raise Misuse(f"a slot is in the batch twice, as of two sequences: {runs}")
        wanting = [slot for *_, slot, wants in entries if wants]
        if len(wanting) != outputs:
            raise Misuse(f"{outputs} rows of logits are expected, and the batch wants {len(wanting)}")
        if outputs > self.output_rows:
            raise Misuse(f"{outputs} rows of logits, of {self.output_rows} at most")

    def set_adapters(self, adapters: AdapterSet) -> None:
        if adapters == self.adapters:
            raise Misuse("adapters are set anew that are set already")
        if not self.loaded.issuperset(place for place, _ in adapters.scales):
            raise Misuse("an adapter is set that is not loaded")
        self.adapters_set += 1
        if self.fail_transfer():
            self.adapters = AdapterSet(((99, 1.0),), "nobody knows")
            raise DecodeFailed("as the test asked, in setting adapters")
        self.adapters = adapters

    def load_adapter(self, place: int, adapter: Adapter) -> None:
        if place in self.loaded | self._freed:
            raise Misuse("a place is used twice")
        self.loaded.add(place)

    def free_adapter(self, place: int) -> None:
        if any(place == each for each, _ in self.adapters.scales):
            raise Misuse("an adapter is freed that is set")
        self.loaded.remove(place)
        self._freed.add(place)

    def copy_slot(self, source: int, target: int) -> None:
        self._check_transfer(source, target)
        if source == target:
            raise Misuse(f"slot {source} is copied onto itself")
        self.held[target] = list(self.held[source])
        self._states[target] = list(self._states[source])
        self._salts[target] = list(self._salts[source])
        self.copies += 1

    def cut_slot(self, slot: int, length: int) -> None:
        self._check_transfer(slot)
        if not self.shares_prefixes:
            raise Misuse("this memory cannot be cut")
        if not 0 <= length <= len(self.held[slot]):
            raise Misuse(f"slot {slot} holds {len(self.held[slot])} tokens and is cut to {length}")
        del self.held[slot][length:]
        del self._states[slot][length:]
        del self._salts[slot][length:]

    def clear_slot(self, slot: int) -> None:
        self._check_transfer(slot)
        self.held[slot].clear()
        self._states[slot].clear()
        self._salts[slot].clear()

    def save_slot(self, slot: int) -> SlotState:
        self._check_transfer(slot)
        self.saves += 1
        cells = np.array(self.held[slot]) + np.array(self._salts[slot]) * _TOKENS
        state: SlotState = cells.astype(np.int32).view(np.uint8)
        return state

    def load_slot(self, slot: int, state: SlotState) -> None:
        self._check_transfer(slot)
        cells = state.view(np.int32).tolist()
        others = sum(len(held) for other, held in enumerate(self.held) if other != slot)
        if self.pool_tokens is not None and others + len(cells) > self.pool_tokens:
            raise Misuse(f"{len(cells)} tokens are restored beside {others} in a pool of {self.pool_tokens}")
        self.held[slot].clear()
        self._states[slot].clear()
        self._salts[slot].clear()
        if self.fail_load():
            raise DecodeFailed("as the test asked, in a restore")
        for cell in cells:
            self._append(slot, cell % _TOKENS, cell // _TOKENS)
        self.loads += 1

    def _check_transfer(self, *slots: int) -> None:
        for slot in slots:
            if not 0 <= slot < self.slots:
                raise Misuse(f"slot {slot} is not one of {self.slots}")
        if self.fail_transfer():
            raise DecodeFailed("as the test asked, in a transfer")
