"""The front: what is on it is beaten by nothing, what is not by something on it."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from model_registry.store.twin_record import Measurement
from model_registry.tune.pareto_front import merits_of, pareto_front

_MERITS = st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=12)


def _beats(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return one != other and all(mine >= its for mine, its in zip(one, other, strict=True))


@given(_MERITS)
def test_the_front_is_what_nothing_beats(merits: list[tuple[int, ...]]) -> None:
    front = pareto_front(merits)
    assert len(front) == len(merits)
    best = [merit for merit, is_on in zip(merits, front, strict=True) if is_on]
    for merit, is_on in zip(merits, front, strict=True):
        assert is_on == (not any(_beats(other, merit) for other in merits))
        # Whoever is beaten is beaten by one of the front: looking at nothing else loses nothing.
        assert is_on or any(_beats(other, merit) for other in best)
    assert bool(best) == bool(merits)


@given(_MERITS, st.randoms())
def test_neither_order_nor_repetition_matters(merits: list[tuple[int, ...]], random: object) -> None:
    known = dict(zip(merits, pareto_front(merits), strict=True))
    again = [*reversed(merits), *merits]
    assert [known[merit] for merit in again] == pareto_front(again)


def test_more_speed_less_perplexity_and_less_memory_are_better() -> None:
    def measured(speed: float, perplexity: float, memory: int) -> Measurement:
        return Measurement(
            quantisation="Q4_0",
            file_bytes=1,
            memory_bytes=memory,
            prefill=speed,
            decode_1=speed,
            decode_8=speed,
            perplexity=perplexity,
        )

    choices = [
        measured(2, 10, 5),
        measured(3, 11, 5),
        measured(2, 10, 6),
        measured(1, 11, 4),
        measured(3, 12, 5),
    ]
    assert pareto_front([merits_of(choice) for choice in choices]) == [True, True, False, True, False]
