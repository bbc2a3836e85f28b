"""Whether saving pays: on made-up streams of prompts, against what came back of all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.backend import Tokens
from engine.prefix_store import PrefixStore
from engine.prefix_worth import PrefixWorth

_LENGTH, _TOKEN_BYTES = 160, 100
_SAVE_S = _LENGTH * 20e-6


@dataclass
class _Time:
    token_s: float = 1e-3


def _prompt(number: int, length: int = _LENGTH) -> Tokens:
    tokens = np.full(length, number, dtype=np.int32)
    tokens[1:] += np.arange(1, length, dtype=np.int32)
    return tokens


class _Slots:
    """One slot whose every prefix leaves for the next prompt, with a store that may hold ``room`` of them."""

    def __init__(self, room: int = 1000, time: _Time | None = None) -> None:
        self.time = time or _Time()
        self.worth = PrefixWorth(self.time)
        self.store = PrefixStore(room * _LENGTH * _TOKEN_BYTES, worth=self.worth)
        self.held: Tokens | None = None
        self.saved = self.spared = 0

    def ask(self, prompt: Tokens, scope: str = "", save_s: float = _SAVE_S) -> None:
        stored = self.store.match(prompt, scope)
        restored = 0 if stored is None else min(stored.shared(prompt), len(prompt) - 1)
        restored = 0 if stored is None or restored < stored.least_gain else restored
        self.store.placed(prompt, scope, restored, restored)
        self.spared += restored
        if self.held is not None and self.store.prepare(self.held, scope):
            self.saved += 1
            self.store.save(self.held, scope, np.zeros(len(self.held) * _TOKEN_BYTES, np.uint8), save_s)
        self.held = prompt


def test_what_nobody_asks_for_again_is_saved_no_more() -> None:
    slots = _Slots()
    for number in range(400):
        slots.ask(_prompt(1000 * number))
    early = slots.saved
    assert early < 250
    for number in range(400, 1040):
        slots.ask(_prompt(1000 * number))
    assert slots.saved - early <= 12, "a probe now and then"


def test_where_saving_takes_next_to_nothing_it_goes_on_longer() -> None:
    dear, cheap = _Slots(), _Slots()
    for number in range(300):
        dear.ask(_prompt(1000 * number), save_s=10 * _SAVE_S)
        cheap.ask(_prompt(1000 * number), save_s=_SAVE_S / 10)
    assert dear.saved < 30
    assert cheap.saved == 299


def test_chats_that_take_turns_are_saved_for_ever() -> None:
    slots = _Slots()
    for turn in range(1, 100):
        for chat in range(8):
            slots.ask(_prompt(100_000 * chat, 100 + 20 * turn))
    assert slots.saved == 99 * 8 - 1
    assert slots.spared > 0.9 * 99 * 8 * 100


def test_when_people_come_back_for_what_was_not_saved_saving_begins_again() -> None:
    slots = _Slots()
    for number in range(600):
        slots.ask(_prompt(1000 * number))
    before = slots.saved
    for turn in range(20):
        for chat in range(8):
            slots.ask(_prompt(10_000_000 + 100_000 * chat, 160 + 20 * turn))
    assert slots.saved - before > 0.9 * 19 * 8, "the first turns alone were lost"


def test_an_other_scope_misses_nothing() -> None:
    slots = _Slots()
    for number in range(600):
        slots.ask(_prompt(1000 * number))
    returned = slots.worth.returned_share
    slots.ask(_prompt(1000 * 590), scope="other")
    assert slots.worth.returned_share <= returned
    slots.ask(_prompt(1000 * 590))
    assert slots.worth.returned_share > returned


def test_no_more_is_remembered_than_there_would_be_memory_for() -> None:
    slots = _Slots(room=20)
    for number in range(600):
        slots.ask(_prompt(1000 * number))
    returned = slots.worth.returned_share
    slots.ask(_prompt(1000 * 500))
    assert slots.worth.returned_share <= returned, "it would have been dropped meanwhile"


def test_while_nobody_knows_what_a_token_takes_all_is_saved() -> None:
    slots = _Slots(time=_Time(0.0))
    for number in range(600):
        slots.ask(_prompt(1000 * number))
    assert slots.saved == 599


@given(
    asked=st.lists(
        st.tuples(st.integers(0, 5), st.integers(64, 400), st.floats(0, 1)), min_size=1, max_size=200
    ),
    token_s=st.floats(0, 1),
)
def test_no_share_is_negative_and_no_limit_is_passed(
    asked: list[tuple[int, int, float]], token_s: float
) -> None:
    slots = _Slots(room=3, time=_Time(token_s))
    for chat, length, save_s in asked:
        slots.ask(_prompt(1000 * chat, length), save_s=save_s)
        assert slots.worth.returned_share >= 0
        assert slots.store.used_bytes <= slots.store.limit_bytes


def test_long_chats_are_trusted_as_long_as_short_ones() -> None:
    """Twenty of them leave before the first comes back."""
    slots = _Slots()
    for turn in range(3):
        for chat in range(20):
            slots.ask(_prompt(100_000 * chat, 4000 + 100 * turn), save_s=4000 * 80e-6)
    assert slots.saved == 59
    assert slots.spared == 20 * 4000 + 20 * 4100
