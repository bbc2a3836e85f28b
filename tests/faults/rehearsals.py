"""Rehearsals of every act that writes, each in a process with a disk that can fail (``disk_faults.c``)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from tests.server.nibble_process import ROOT

MOST_CALLS = 400
"""More than any of the acts makes."""
_SOURCE = Path(__file__).with_name("disk_faults.c")


class Rehearsal(TypedDict):
    """One act under one kind of fault."""

    act: str
    kind: str
    calls: int
    """How many calls had the fault, one after the other: all that it makes."""
    outcomes: dict[str, int]
    faults: list[str]


class CannotRehearse(Exception):
    """Here is no Linux, or no compiler; the message says which."""


def rehearsals(directory: Path, kinds: Sequence[int]) -> list[Rehearsal]:
    """All acts under faults of ``kinds``. What is compiled goes into ``directory``. Raises CannotRehearse."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        raise CannotRehearse("faults are injected on Linux, with the C compiler that the set-up needs too")
    library = directory / "disk_faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], check=True)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.faults.rehearsal", str(MOST_CALLS), *map(str, kinds)],
        env=os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(f"the rehearsal ended with {ran.returncode}: {ran.stderr[-2000:]}")
    return [json.loads(line) for line in ran.stdout.splitlines()]
