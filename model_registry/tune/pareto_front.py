"""The choices that nothing beats. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from model_registry.store.twin_record import Measurement


def pareto_front(merits: Sequence[Sequence[float]]) -> list[bool]:
    """Of each choice, whether no other is at least as good in everything and better in something.

    ``merits`` has a row for each choice, all of one length, and more is better in each column. Equal choices do not
    beat each other.
    """
    return [not any(_beats(other, merit) for other in merits) for merit in merits]


def merits_of(measurement: Measurement) -> tuple[float, ...]:
    """What counts of a file, more is better: three speeds, how well it foretells a text, how little memory it takes."""
    return (
        measurement.prefill,
        measurement.decode_1,
        measurement.decode_8,
        -measurement.perplexity,
        -float(measurement.memory_bytes),
    )


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(mine >= its for mine, its in zip(one, other, strict=True)) and tuple(one) != tuple(other)
