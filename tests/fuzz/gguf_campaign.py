"""Mutants of model files through the disposable validator: refused, loaded or fatal, and the parent lives on."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from engine.helper_process import HelperProcess
from tests.fuzz.gguf_mutant import MutantFactory, Patch, Recipe, new_recipe
from tests.fuzz.verdict import TRIAL_LIMIT_S, Verdict

MUTANTS_A_ROUND = 2_000
_LONGEST_MESSAGE = 600
_SHARED_MEMORY = Path("/dev/shm")


@dataclass(slots=True)
class GgufOutcome:
    mutants: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    """By kind of verdict."""
    failures: list[str] = field(default_factory=list)


class Trials:
    """The process that tries files out, and a place for them. Use as a context manager."""

    def __init__(self) -> None:
        self._process = HelperProcess("tests.fuzz.gguf_trial", b"")
        self._directory = tempfile.TemporaryDirectory(dir=_SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None)
        self._path = Path(self._directory.name, "mutant.gguf")
        self.deaths = 0
        """Of the process that may not die."""

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.close()
        self._directory.cleanup()

    def verdict(self, mutant: bytes) -> Verdict:
        self._path.write_bytes(mutant)
        answer = self._process.ask(str(self._path).encode(), 3 * TRIAL_LIMIT_S)
        if answer is None:
            self.deaths += 1
            return Verdict("died", f"and took its parent along ({self._process.reap()})")
        return msgspec.msgpack.decode(answer, type=Verdict)

    def fault(self, verdict: Verdict) -> str:
        """What is wrong with a verdict; empty where nothing is. That the trial died is what it is for."""
        match verdict.kind:
            case "untyped" | "hung":
                return f"{verdict.kind}: {verdict.why}"
            case "refused" if str(self._path.parent) in verdict.why:
                return f"names a path: {verdict.why}"
            case "refused" if not verdict.why or len(verdict.why) > _LONGEST_MESSAGE:
                return f"a message of {len(verdict.why)} characters: {verdict.why[:200]}"
            case _:
                return "" if not self.deaths else "the parent died"


class GgufCampaign:
    """Keeps in a directory what ended the validator, one of each cause and as small as it gets."""

    def __init__(self, keep: Path) -> None:
        self._keep = keep
        self._factory = MutantFactory()

    def run(self, mutants: int, *, seed: int, tell: Callable[[int], None] = lambda done: None) -> GgufOutcome:
        outcome = GgufOutcome()
        choose = random.Random(seed)
        started_s = time.monotonic()
        killers = self._killers()
        known = {patch.what for patch in killers}
        with Trials() as trials:
            for number in range(mutants):
                recipe = new_recipe(choose)
                verdict = trials.verdict(self._factory.make(recipe))
                outcome.mutants += 1
                outcome.counts[verdict.kind] += 1
                if fault := trials.fault(verdict):
                    outcome.failures.append(f"{fault} ({recipe})")
                if verdict.kind == "died" and verdict.why not in known:
                    known.add(verdict.why)
                    killers.append(self._shortest(trials, recipe, verdict))
                if number % 64 == 0:
                    tell(number)
        self._keep_killers(killers)
        outcome.seconds = time.monotonic() - started_s
        return outcome

    def _shortest(self, trials: Trials, recipe: Recipe, verdict: Verdict) -> Patch:
        """``recipe`` without the edits that it kills as well without."""
        for edit in recipe.edits:
            fewer = Recipe(recipe.base, tuple(each for each in recipe.edits if each != edit))
            if fewer.edits and trials.verdict(self._factory.make(fewer)) == verdict:
                recipe = fewer
        sound = self._factory.sound(recipe.base)
        return Patch.between(recipe.base, sound, self._factory.make(recipe), verdict.why)

    @property
    def _killers_path(self) -> Path:
        return self._keep / "gguf_killers.json"

    def _killers(self) -> list[Patch]:
        if not self._killers_path.exists():
            return []
        return msgspec.json.decode(self._killers_path.read_bytes(), type=list[Patch])

    def _keep_killers(self, killers: list[Patch]) -> None:
        self._keep.mkdir(parents=True, exist_ok=True)
        self._killers_path.write_bytes(msgspec.json.format(msgspec.json.encode(killers)))
