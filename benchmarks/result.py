"""One row of the report: what was measured, against which goal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """A measured figure beside its goal. Nothing is asserted: machines differ, and noise is noise."""

    workload: str
    figure: str
    """The measured value with its unit, as a person reads it."""
    goal: str
    is_met: bool
    detail: str = ""
    """The figures behind the figure."""
    score: float = 0.0
    """The figure over its goal, or the goal over the figure where less is better: 1 and more is met."""
