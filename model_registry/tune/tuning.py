"""What a tuning has found out."""

from __future__ import annotations

import msgspec

from model_registry.store.twin_record import Measurement, TwinRecord
from model_registry.tune.pareto_front import merits_of, pareto_front


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """A model and its twins, measured on one text and one machine."""

    model: str
    original: Measurement
    twins: tuple[Measurement, ...] = ()
    tokens: int
    """Of the text."""
    text_sha256: str
    build: str
    threads: int
    measured_at: int
    """Unix seconds."""
    disturbed: tuple[str, ...] = ()
    """Of which types the speeds are too low, since other programs had the processors meanwhile; a sentence each."""
    left_out: tuple[str, ...] = ()
    """Types that could not be made of this model or measured, one sentence each."""

    twin_id: str = ""
    """Of the twin that serves in the model's place from now on, the last one of ``twins``; empty for none."""

    @property
    def twin_record(self) -> TwinRecord | None:
        """What is kept of the twin that was applied."""
        if not self.twin_id:
            return None
        return TwinRecord(
            id=self.twin_id,
            original=self.original,
            twin=self.twins[-1],
            tokens=self.tokens,
            text_sha256=self.text_sha256,
            build=self.build,
            threads=self.threads,
            measured_at=self.measured_at,
        )

    @property
    def choices(self) -> tuple[Measurement, ...]:
        """The original, and then its twins."""
        return (self.original, *self.twins)

    @property
    def unbeaten(self) -> tuple[bool, ...]:
        """Of each choice, whether nothing beats it in speed, perplexity and memory together."""
        return tuple(pareto_front([merits_of(choice) for choice in self.choices]))

    def report(self) -> TuningReport:
        return TuningReport(**msgspec.structs.asdict(self), unbeaten=self.unbeaten)


class TuningReport(Tuning, frozen=True, kw_only=True):
    """The same as programs are told of it: what the command prints for them, and the result of a job."""

    unbeaten: tuple[bool, ...]
    """Of the original, and then of each twin, whether nothing beats it in speed, perplexity and memory together."""
