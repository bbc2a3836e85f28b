"""What a part of the soak found: figures, and what went wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Finding:
    part: str
    figures: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    """Times past their goals: faults of a soak on a quiet machine, and nothing that a test may fail of."""

    def expect(self, is_so: bool, fault: str) -> None:
        if not is_so:
            self.faults.append(fault)

    def expect_time(self, is_so: bool, fault: str) -> None:
        if not is_so:
            self.late.append(fault)

    @property
    def is_sound(self) -> bool:
        return not self.faults and not self.late

    def add_faults(self, what: str, faults: list[str]) -> None:
        """One fault for each kind of them, with how often it came."""
        self.faults += [
            f"{count} x {what}: {fault}" for fault, count in Counter(filter(None, faults)).items()
        ]

    def __str__(self) -> str:
        verdict = (
            "as promised" if self.is_sound else f"{len(self.faults)} FAULTS, {len(self.late)} times too long"
        )
        lines = [f"{self.part}: {verdict}"]
        lines += [f"  {name}: {value}" for name, value in self.figures.items()]
        lines += [f"  FAULT {fault}" for fault in self.faults[:20]]
        lines += [f"  LATE {late}" for late in self.late]
        return "\n".join(lines)
