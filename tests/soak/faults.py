"""A fault at every call that changes the disk, of every act that writes, in four ways."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.faults.rehearsal import KINDS
from tests.faults.rehearsals import rehearsals
from tests.soak.finding import Finding


def soak_faults(home: Path) -> Finding:
    finding = Finding("faults")
    home.mkdir()
    outcomes: Counter[str] = Counter()
    found = rehearsals(home, range(len(KINDS)))
    for one in found:
        finding.faults += [f"{one['act']}, {one['kind']}: {fault}" for fault in one["faults"]]
        outcomes.update(one["outcomes"])
    acts = {one["act"]: one["calls"] for one in found}
    finding.figures = {
        "acts and calls in each": ", ".join(f"{act} {calls}" for act, calls in acts.items()),
        "ways to fail": ", ".join(KINDS),
        "faults": str(sum(one["calls"] for one in found)),
        "what was left": ", ".join(f"{name}: {count}" for name, count in sorted(outcomes.items())),
    }
    return finding
