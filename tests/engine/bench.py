"""An engine core over the fake backend, and the slow, obvious model of what one sequence must answer."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field

import numpy as np

from engine.core import EngineCore
from engine.detokenizer import Detokenizer
from engine.drafter import Drafter
from engine.events import Finish
from engine.frames import StepReport
from engine.sampling.params import SamplingParams
from engine.sampling.sampler import Sampler
from engine.sampling.scratch import Scratch
from engine.sequence import Sequence
from engine.step_budget import StepBudget
from engine.stop_matcher import StopMatcher
from tests.fakes.backend import FakeBackend, HashModel
from tests.fakes.vocabulary import END, ByteVocabulary

_E_ACUTE = "é".encode()
ALPHABET = (*b"abcdefgh", *_E_ACUTE, *_E_ACUTE, _E_ACUTE[1], END)
"""What the fake model likes to say: letters, so that stop strings come up, bytes of a split character, an end."""
GREEDY = SamplingParams(temperature=0.0)


@dataclass(frozen=True)
class Ask:
    """One request in the terms of the core: a prompt of token ids, ``n`` choices."""

    prompt: tuple[int, ...]
    n: int = 1
    max_tokens: int = 8
    min_tokens: int = 0
    ignores_end: bool = False
    stop: tuple[str, ...] = ()
    sampling: SamplingParams = GREEDY
    prediction: tuple[int, ...] | None = None
    """What is drafted from besides the sequence itself; None drafts nothing."""


@dataclass
class Answer:
    """What one choice was told."""

    text: str = ""
    tokens: int = 0
    finish: Finish | None = None


@dataclass(frozen=True)
class Expected:
    text: str
    tokens: int
    reason: str


def answer_alone(model: HashModel, ask: Ask, choice: int = 0) -> Expected:
    """Compute one choice from the definitions, whole text at every token, nothing shared and nothing held back."""
    sampler = _sampler(ask, choice, Scratch(model.vocabulary_size))
    vocabulary = ByteVocabulary()
    ends = set(vocabulary.end_tokens.tolist())
    tokens = list(ask.prompt)
    raw = before_stops = b""
    for count in range(1, ask.max_tokens + 1):
        may_end = count > ask.min_tokens and not ask.ignores_end
        token = sampler.sample(model.logits_after(tokens), may_end=may_end)
        if token in ends:
            return Expected(_whole_characters(raw), count, "stop")
        tokens.append(token)
        raw += vocabulary.piece(token)
        if count <= ask.min_tokens:
            before_stops = raw
            continue
        unwatched, text = len(_whole_characters(before_stops)), _whole_characters(raw)
        cuts = [at for stop in ask.stop if (at := text.find(stop, unwatched)) >= 0]
        if cuts:
            return Expected(text[: min(cuts)], count, "stop")
    return Expected(_whole_characters(raw), ask.max_tokens, "length")


def _whole_characters(raw: bytes) -> str:
    """All but an unfinished character at the end."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(raw)


def _sampler(ask: Ask, choice: int, scratch: Scratch) -> Sampler:
    return Sampler(
        ask.sampling,
        prompt=np.array(ask.prompt, dtype=np.int32),
        choice=choice,
        end_tokens=ByteVocabulary().end_tokens,
        scratch=scratch,
    )


@dataclass
class Bench:
    """A core on a fake backend, and what it has told so far. Checks each step for what must hold of every step."""

    slots: int = 4
    slot_tokens: int = 128
    pool_tokens: int | None = None
    prefix_memory_bytes: int = 0
    batch_tokens: int = 16
    budget: StepBudget | None = None
    shares_prefixes: bool = True
    now_s: float = 0.0
    asks: dict[int, Ask] = field(default_factory=dict)
    sequences: dict[int, list[Sequence]] = field(default_factory=dict)
    answers: dict[int, list[Answer]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.model = HashModel(ByteVocabulary.size, ALPHABET)
        self.backend = FakeBackend(
            self.model,
            slots=self.slots,
            slot_tokens=self.slot_tokens,
            pool_tokens=self.pool_tokens,
            batch_tokens=self.batch_tokens,
            shares_prefixes=self.shares_prefixes,
        )
        self.core = EngineCore(
            self.backend,
            end_tokens=ByteVocabulary().end_tokens,
            clock=self._tick,
            budget=self.budget,
            prefix_memory_bytes=self.prefix_memory_bytes,
        )
        self._scratch = Scratch(ByteVocabulary.size)
        self._next = 1

    def _tick(self) -> float:
        self.now_s += 0.001
        return self.now_s

    def submit(self, ask: Ask) -> int:
        number = self._next
        self._next += 1
        vocabulary = ByteVocabulary()
        sequences = [
            Sequence(
                request=number,
                choice=choice,
                prompt=np.array(ask.prompt, dtype=np.int32),
                max_tokens=ask.max_tokens,
                min_tokens=ask.min_tokens,
                ignores_end=ask.ignores_end,
                sampler=_sampler(ask, choice, self._scratch),
                detokenizer=Detokenizer(vocabulary.piece),
                stop=StopMatcher(ask.stop),
                drafter=self._drafter(ask),
                is_first_choice=choice == 0,
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

    def cancel(self, number: int) -> None:
        self.cancelled.add(number)
        self.core.cancel(number)

    def step(self) -> StepReport:
        steps = len(self.backend.steps)
        report = self.core.step()
        assert report.failures or len(self.backend.steps) == steps + 1, "a step without progress"
        for piece in report.pieces:
            answer = self.answers[piece.request][piece.choice]
            assert answer.finish is None, "told after its end"
            assert piece.request not in self.cancelled, "told after it was cancelled"
            assert piece.request not in self.failed, "told after it failed"
            assert piece.text or piece.finish, "told nothing"
            answer.text += piece.text
            answer.tokens += piece.tokens
            answer.finish = piece.finish
        for failure in report.failures:
            assert failure.request not in self.failed, "failed twice"
            assert failure.request not in self.cancelled, "failed after it was cancelled"
            self.failed[failure.request] = failure.error.message
        return report

    def run(self, limit: int = 10_000) -> None:
        """Step until nothing is left to do."""
        for _ in range(limit):
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
                assert answer.finish.prompt_tokens == (len(ask.prompt) if choice == 0 else 0)

    def computed_by_sequences(self) -> int:
        """Tokens that were computed for a sequence, by the sequences' own account."""
        every = [s for sequences in self.sequences.values() for s in sequences]
        return sum(s.computed - s.cached + s.drafted - s.accepted for s in every)

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
