"""Bounds of a queue, against sums that are made anew each time."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.backlog import Backlog, Entry, QueueLimits, entry_of
from engine.config import EngineStats
from engine.embedding import EmbeddingRequest, PairPrompt
from engine.errors import KeyQueueFull, QueueFull
from engine.histogram import Histogram
from engine.pace import Pace
from engine.prompt import ChatMessage, ChatPrompt, InfillPrompt, TextPrompt, TokenPrompt, Tool
from engine.request import EngineRequest

LIMITS = QueueLimits(choices=8, tenant_choices=5, tokens=100, tenant_tokens=60)


class BacklogMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.backlog = Backlog("m", Pace())
        self.entries: dict[int, Entry] = {}
        self.number = 0

    def _sum(self, what: str, tenant: str | None = None) -> int:
        chosen = [e for e in self.entries.values() if tenant is None or e.tenant == tenant]
        if what == "choices":
            return sum(e.choices for e in chosen)
        return sum(e.prompt_tokens + e.answer_tokens for e in chosen if e.is_waiting)

    @rule(
        tenant=st.sampled_from(("", "a", "b")),
        choices=st.integers(1, 4),
        prompt=st.integers(0, 50),
        answer=st.integers(0, 50),
    )
    def add(self, tenant: str, choices: int, prompt: int, answer: int) -> None:
        entry = Entry(tenant, choices, prompt, answer)
        expected: type[Exception] | None = None
        own, every = self._sum("tokens", tenant), self._sum("tokens")
        own_choices = self._sum("choices", tenant) + choices
        if tenant and (
            own_choices > LIMITS.tenant_choices or 0 < own > LIMITS.tenant_tokens - prompt - answer
        ):
            expected = KeyQueueFull
        elif self._sum("choices") + choices > LIMITS.choices or 0 < every > LIMITS.tokens - prompt - answer:
            expected = QueueFull
        if expected is not None:
            with pytest.raises(expected):
                self.backlog.check(entry, LIMITS)
            return
        self.backlog.check(entry, LIMITS)
        self.number += 1
        self.backlog.add(self.number, entry)
        self.entries[self.number] = Entry(tenant, choices, prompt, answer)

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), tokens=st.integers(0, 80))
    def read(self, data: st.DataObject, tokens: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.entries)))
        self.backlog.read(number, tokens)
        self.entries[number].prompt_tokens = tokens

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.entries)))
        self.backlog.begin(number)
        self.entries[number].is_waiting = False

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.entries)))
        self.backlog.remove(number)
        del self.entries[number]

    @rule()
    def hear_of_what_has_ended(self) -> None:
        self.backlog.read(10**6, 5)
        self.backlog.begin(10**6)

    @invariant()
    def counts(self) -> None:
        assert self.backlog.choices == self._sum("choices")
        assert self.backlog.waiting_tokens == self._sum("tokens")


TestBacklog = BacklogMachine.TestCase


def paced(tokens_per_s: float) -> Pace:
    pace = Pace()
    pace.learn(
        EngineStats(generation_tokens_total=round(10 * tokens_per_s), step_seconds_total=Histogram([0], 10.0))
    )
    return pace


def test_whoever_is_refused_hears_when_what_waits_will_be_done() -> None:
    backlog = Backlog("m", paced(20.0))
    backlog.add(1, Entry("", 1, 60, 40))
    with pytest.raises(QueueFull, match="100 tokens waiting, and takes 100") as caught:
        backlog.check(Entry("", 1, 1, 0), LIMITS)
    assert caught.value.retry_after_s == pytest.approx(5.0)
    backlog.add(2, Entry("a", 1, 30, 30))
    with pytest.raises(KeyQueueFull, match="this API key has 60 tokens") as caught_key:
        backlog.check(Entry("a", 1, 1, 0), LIMITS)
    assert caught_key.value.retry_after_s == pytest.approx(8.0)


def test_when_to_come_again_is_never_at_once_nor_never() -> None:
    backlog = Backlog("m", paced(1e9))
    backlog.add(1, Entry("", 1, 1, 0))
    assert backlog.retry_after_s == 0.1
    slow = Backlog("m", paced(0.1))
    slow.add(1, Entry("", 1, 10**6, 0))
    assert slow.retry_after_s == 600.0
    assert Backlog("m", Pace()).retry_after_s == 1.0


def test_a_request_before_which_nobody_waits_is_never_too_large() -> None:
    backlog = Backlog("m", Pace())
    backlog.check(Entry("a", 1, 10_000, 0), LIMITS)
    backlog.add(1, Entry("a", 1, 10_000, 0))
    backlog.begin(1)
    backlog.check(Entry("a", 1, 10_000, 0), LIMITS)


def test_what_a_request_is_likely_to_cost() -> None:
    pace = Pace()
    two = EngineRequest(prompts=(TokenPrompt((1, 2, 3)), TextPrompt("x" * 40)), n=2, max_tokens=5, tenant="a")
    assert entry_of(two, pace, context=100) == Entry("a", 4, 3 + 11, 20)
    unlimited = EngineRequest(prompts=(InfillPrompt(TokenPrompt((1,)), ""),))
    assert entry_of(unlimited, pace, context=1000).answer_tokens == round(pace.answer_tokens)
    chat = ChatPrompt(
        (ChatMessage(role="user", content="x" * 10), ChatMessage(role="assistant", content=None)),
        (Tool(name="f", description="x" * 10, parameters="{}" + " " * 18),),
    )
    assert entry_of(EngineRequest(prompts=(chat,), max_tokens=0), pace, context=100).tokens == 11
    vectors = EmbeddingRequest(inputs=(PairPrompt("x" * 4, "x" * 4), PairPrompt("", "")), tenant="b")
    assert entry_of(vectors, pace, context=100) == Entry("b", 1, 3 + 1, 0)


@given(length=st.integers(0, 10_000), max_tokens=st.none() | st.integers(0, 2**31 - 1))
def test_what_can_never_fit_counts_as_one_context(length: int, max_tokens: int | None) -> None:
    """So that the worker refuses it as what it is, and no queue before it."""
    request = EngineRequest(prompts=(TextPrompt("x" * length),), n=3, max_tokens=max_tokens)
    assert entry_of(request, Pace(), context=64).tokens <= 4 * 64
