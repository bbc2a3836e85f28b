"""Inputs guided by coverage: ``python -m tests.fuzz.guided TARGET``, which atheris instruments and then drives.

atheris is no dependency: it is built for some versions of Python alone, and the seeded campaigns do without.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

_LONGEST = 1024
_MISSING = "atheris is not installed here: .venv/bin/pip install 'atheris>=3.0'"
_COUNT = re.compile(rb"^Done (\d+) (?:runs )?in (\d+) second", re.MULTILINE)
_FAILED = b"Uncaught Python exception"
_COVERAGE = re.compile(rb"cov: (\d+) ft: (\d+)")


def run_guided(name: str, *, runs: int, seed: int, keep: Path) -> str:
    """What came of it, in a sentence. What was found worth keeping is where the next run begins."""
    if importlib.util.find_spec("atheris") is None:
        raise SystemExit(_MISSING)
    corpus = (keep / "corpus" / name).resolve()
    corpus.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.guided", name, str(corpus)]
    limits = [
        f"-atheris_runs={runs}",
        f"-seed={seed + 1}",
        f"-max_len={_LONGEST}",
        "-timeout=10",
        f"-artifact_prefix={keep.resolve()}/{name}-",
    ]
    done = subprocess.run([*command, *limits], capture_output=True, check=False)
    words = done.stdout + done.stderr
    counted = _COUNT.findall(words)
    covered = _COVERAGE.findall(words)
    coverage = f"{covered[-1][0].decode()} edges" if covered else "unknown coverage"
    # Its status is no proof: a timer of libFuzzer's may end the process after the last run.
    if _FAILED in words or not counted:
        return f"FAILED (status {done.returncode}): {words[-1500:].decode('utf-8', 'replace')}"
    total, seconds = counted[-1]
    return f"{int(total):,} runs in {int(seconds)} s, {coverage}: none failed"


def _drive() -> None:
    # Untyped, and mostly not there.
    atheris = importlib.import_module("atheris")
    name, corpus, *flags = sys.argv[1:]
    with atheris.instrument_imports(include=["engine", "generation", "routes", "server"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    for number, data in enumerate(target.seeds):
        Path(corpus, f"seed-{number}").write_bytes(data)
    atheris.Setup([sys.argv[0], *flags, corpus], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    _drive()
