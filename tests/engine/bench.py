"""An engine core over the fake backend, which checks each step for what must hold of every step."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from engine.adapter_turns import MOST_STEPS
from engine.answer_scores import AnswerScores
from engine.core import EngineCore
from engine.detokenizer import Detokenizer
from engine.disk.directory import PrefixDirectory
from engine.disk.file_system import FileSystem
from engine.disk.tier import DiskTier
from engine.draft_model import DraftModel
from engine.drafter import Drafter
from engine.echo import Echo, read_echo
from engine.events import Finish
from engine.frames import Failure, StepReport
from engine.prefix_store import common_length
from engine.prompt import TokenPrompt
from engine.prompt_reader import ReadPrompt
from engine.sampling.scratch import Scratch
from engine.sequence import Phase, Sequence
from engine.step_budget import StepBudget
from engine.stop_matcher import StopMatcher
from engine.token_logprob import TokenLogprob
from engine.token_scorer import TokenScorer
from tests.engine.answer_alone import ALPHABET, Ask, answer_alone, check_logprobs, sampler_of
from tests.fakes.backend import FakeBackend, HashModel
from tests.fakes.vocabulary import ByteVocabulary


class UnsyncedFileSystem(FileSystem):
    """The real one, without waiting for the medium."""

    def sync(self, descriptor: int) -> None:
        pass

    def sync_directory(self, path: Path) -> None:
        pass


@dataclass
class Answer:
    """What one choice was told."""

    text: str = ""
    tokens: int = 0
    finish: Finish | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)


@dataclass
class Bench:
    """A core on a fake backend, and what it has told so far. Checks each step for what must hold of every step."""

    slots: int = 4
    slot_tokens: int = 128
    pool_tokens: int | None = None
    prefix_memory_bytes: int = 0
    disk_root: Path | None = None
    disk_limit_bytes: int = 1 << 20
    batch_tokens: int = 16
    budget: StepBudget | None = None
    alphabet: tuple[int, ...] = ALPHABET
    draft: FakeBackend | None = None
    """What guesses ahead; see ``draft_backend``."""
    draft_s: float = 1e-4
    """Seconds that a step of the draft model takes; one of the other takes a millisecond."""
    draft_most_tokens: int = 1000
    is_one_pass: bool = False
    shares_prefixes: bool = True
    now_s: float = 0.0
    asks: dict[int, Ask] = field(default_factory=dict)
    sequences: dict[int, list[Sequence]] = field(default_factory=dict)
    answers: dict[int, list[Answer]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)
    past: list[Sequence] = field(default_factory=list)
    """Those of an earlier bench, whose prefixes may be on disk."""

    def __post_init__(self) -> None:
        self.model = HashModel(ByteVocabulary.size, self.alphabet)
        self.backend = FakeBackend(
            self.model,
            slots=self.slots,
            slot_tokens=self.slot_tokens,
            pool_tokens=self.pool_tokens,
            batch_tokens=self.batch_tokens,
            is_one_pass=self.is_one_pass,
            shares_prefixes=self.shares_prefixes,
        )
        self.disk = None if self.disk_root is None else self._open_disk(self.disk_root)
        self.core = EngineCore(
            self.backend,
            end_tokens=ByteVocabulary().end_tokens,
            clock=self._tick,
            budget=self.budget,
            prefix_memory_bytes=self.prefix_memory_bytes,
            disk=self.disk,
            draft_model=self._draft_model(),
            tell_begun=self._note_begun,
        )
        self.begun: set[int] = set()
        """Requests that were told to have begun."""
        self._scratch = Scratch(ByteVocabulary.size)
        self._parked: dict[Sequence, int] = {}
        """Steps for which each sequence has waited for the turn of its adapters."""
        self._most_sets = 0
        self._next = 1

    def _draft_model(self) -> DraftModel | None:
        if self.draft is None:
            return None
        budget = StepBudget(target_s=0.25, minimum=1, steady=self.draft.batch_tokens, maximum=16)
        clock = itertools.count(0.0, self.draft_s).__next__
        return DraftModel(self.draft, budget, clock=clock, most_tokens=self.draft_most_tokens)

    def _open_disk(self, root: Path) -> DiskTier:
        """A tier without threads: ``read_disk`` and ``write_disk`` do their work."""
        directory = PrefixDirectory(root, "key", self.disk_limit_bytes, system=UnsyncedFileSystem())
        directory.open()
        return DiskTier(directory, deliver=lambda fetched: self.core.take(fetched), queue_bytes=1000)

    def read_disk(self) -> None:
        """Do all that the reading thread has to do."""
        assert self.disk is not None
        while self.disk.pending_reads:
            self.disk.read_one()

    def write_disk(self) -> None:
        """Do all that the writing thread has to do."""
        assert self.disk is not None
        while self.disk.pending_writes:
            self.disk.write_one()

    def _tick(self) -> float:
        self.now_s += 0.001
        return self.now_s

    def submit(self, ask: Ask) -> int:
        number = self._next
        self._next += 1
        vocabulary = ByteVocabulary()
        echo = self._echo(ask)
        sequences = [
            Sequence(
                request=number,
                choice=choice,
                prompt=np.array(ask.prompt, dtype=np.int32),
                max_tokens=ask.max_tokens,
                min_tokens=ask.min_tokens,
                ignores_end=ask.ignores_end,
                sampler=sampler_of(ask, choice, self._scratch),
                detokenizer=Detokenizer(vocabulary.piece),
                stop=StopMatcher(ask.stop),
                drafter=self._drafter(ask),
                scores=self._scores(ask, echo),
                echo=echo,
                is_first_choice=choice == 0,
                tenant=ask.tenant,
                priority=ask.priority,
                adapters=ask.adapters,
            )
            for choice in range(ask.n)
        ]
        self.asks[number], self.sequences[number] = ask, sequences
        self.answers[number] = [Answer() for _ in sequences]
        self.core.add(sequences)
        return number

    def _drafter(self, ask: Ask) -> Drafter | None:
        if ask.prediction is None or not self.shares_prefixes:
            return None
        return Drafter(np.array(ask.prediction, dtype=np.int32))

    def _scores(self, ask: Ask, echo: Echo | None) -> AnswerScores | None:
        if (scorer := self._scorer(ask)) is None:
            return None
        return AnswerScores(scorer, is_told=True, base=0 if echo is None else len(echo.text))

    def _scorer(self, ask: Ask) -> TokenScorer | None:
        if ask.logprobs is None:
            return None
        return TokenScorer(ByteVocabulary(), self._scratch, top=ask.logprobs)

    def _echo(self, ask: Ask) -> Echo | None:
        if not ask.echo:
            return None
        read = ReadPrompt(np.array(ask.prompt, dtype=np.int32))
        return read_echo(ByteVocabulary(), TokenPrompt(ask.prompt), read, self._scorer(ask))

    @property
    def running(self) -> list[Sequence]:
        every = (s for sequences in self.sequences.values() for s in sequences)
        return [s for s in every if s.phase in (Phase.PREFILL, Phase.DECODE)]

    def cancel(self, number: int) -> None:
        self.cancelled.add(number)
        self.core.cancel(number)
        self.core.free_adapters()

    def _check_turns(self, running: list[Sequence], computed: list[int]) -> None:
        """One adapter set was computed, whoever streams with it got on, and nobody waits for ever."""
        moved = {
            s.adapters for s, before in zip(running, computed, strict=True) if s.computed - s.cached > before
        }
        assert moved <= {self.backend.adapters}, "a sequence was computed with foreign adapters"
        sets = len({self.backend.adapters, *(s.adapters for s in (*running, *self.running))})
        parked = [s for s in running if s.is_live and s.adapters != self.backend.adapters]
        self._parked = {s: self._parked.get(s, 0) + 1 for s in parked}
        self._most_sets = max(self._most_sets, sets) if parked else 0
        assert all(steps <= MOST_STEPS * (self._most_sets - 1) for steps in self._parked.values()), (
            "one starves"
        )

    def _note_begun(self, requests: list[int]) -> None:
        assert len(set(requests)) == len(requests)
        for number in requests:
            # Whatever is in a slot by now, the step that is to come is the first for something of it.
            assert any(s.computed == s.cached and not s.generated for s in self.sequences[number])
        self.begun.update(requests)

    def step(self) -> StepReport:
        steps = len(self.backend.steps)
        running = self.running
        computed = [sequence.computed - sequence.cached for sequence in running]
        report = self.core.step()
        if len(self.backend.steps) > steps:
            self._check_turns(running, computed)
        assert {s.request for s in running + self.running} <= self.begun, "begun without a word"
        for number, sequences in self.sequences.items():
            assert number not in self.begun or any(s.phase is not Phase.WAITING for s in sequences)
        is_held_back = not self.core.has_work and self.core.waiting > 0
        assert report.failures or is_held_back or len(self.backend.steps) == steps + 1, (
            "a step without progress"
        )
        for piece in report.pieces:
            if piece.lengths:
                assert (len(piece.lengths), sum(piece.lengths)) == (piece.tokens, len(piece.text))
            answer = self.answers[piece.request][piece.choice]
            assert answer.finish is None, "told after its end"
            assert piece.request not in self.cancelled, "told after it was cancelled"
            assert piece.request not in self.failed, "told after it failed"
            assert piece.text or piece.finish or piece.echo, "told nothing"
            if piece.echo is not None:
                assert not answer.text, "an echo behind other text"
                answer.text += piece.echo.text
                answer.logprobs += piece.echo.logprobs or ()
            answer.logprobs += piece.logprobs or ()
            answer.text += piece.text
            answer.tokens += piece.tokens
            answer.finish = piece.finish
        self.core.free_adapters()
        self.take_failures(report.failures)
        return report

    def take_failures(self, failures: Iterable[Failure]) -> None:
        for failure in failures:
            assert failure.request not in self.failed, "failed twice"
            assert failure.request not in self.cancelled, "failed after it was cancelled"
            self.failed[failure.request] = failure.error.message

    def run(self, limit: int = 10_000) -> None:
        """Step until nothing is left to do."""
        for _ in range(limit):
            if self.disk is not None:
                self.read_disk()
            if not self.core.has_work:
                return
            self.step()
        raise AssertionError(f"there is work after {limit} steps")

    def check_answers(self) -> None:
        """Every choice that was neither cancelled nor failed has ended, as it would have alone."""
        for number, ask in self.asks.items():
            if number in self.cancelled or number in self.failed:
                continue
            for choice, answer in enumerate(self.answers[number]):
                expected = answer_alone(self.model, ask, choice)
                assert answer.finish is not None, f"request {number} choice {choice} has no end"
                assert (answer.text, answer.finish.reason) == (expected.text, expected.reason)
                assert answer.finish.completion_tokens == expected.tokens
                assert answer.tokens == expected.tokens, "the tokens of the pieces do not add up"
                if ask.logprobs is None:
                    assert (answer.logprobs, answer.finish.mean_logprob) == ([], None)
                else:
                    check_logprobs(answer.logprobs, expected.logprobs)
                    assert answer.finish.mean_logprob == pytest.approx(expected.mean_logprob, abs=1e-5)
                assert answer.finish.prompt_tokens == (len(ask.prompt) if choice == 0 else 0)

    def computed_by_sequences(self) -> int:
        """Tokens that were computed for a sequence, by the sequences' own account."""
        every = [s for sequences in self.sequences.values() for s in sequences]
        return sum(s.computed - s.cached + s.drafted - s.accepted for s in every)

    def check_sharing(self) -> None:
        """What a sequence was spared, another of its own scope had computed, or was to compute."""
        every = [s for sequences in self.sequences.values() for s in sequences]
        for one in every:
            own = [s for s in (*self.past, *every) if s is not one and s.scope == one.scope]
            most = max((common_length(one.prompt, s.tokens[: s.length]) for s in own), default=0)
            assert one.cached <= most, "a sequence was spared what nobody of its scope has computed"
            assert one.leader is None or one.leader.scope == one.scope, "a sequence waits for a stranger"

    def check_nothing_leaked(self) -> None:
        """With nothing to do, every slot takes a sequence at once."""
        assert not self.core.has_work
        stats = self.core.stats
        assert (stats.running, stats.waiting) == (0, 0)
        prompts = [self.submit(Ask(prompt=(200 + slot, 7), max_tokens=2)) for slot in range(self.slots)]
        self.step()
        assert self.core.waiting == 0, "a slot is not free although nothing runs"
        for number in prompts:
            self.cancel(number)
