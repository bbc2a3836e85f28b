"""The whole of the core against the slow model, in whatever order requests come, end, fail and are dropped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.adapter import Adapter
from engine.adapter_rack import AdapterOrder
from engine.adapter_set import NO_ADAPTERS, AdapterSet
from engine.errors import ModelLoadFailed
from engine.sampling.params import SamplingParams
from engine.sequence import Phase, Sequence
from engine.step_budget import StepBudget
from tests.engine.answer_alone import ALPHABET, GREEDY, Ask, answer_alone
from tests.engine.bench import Bench
from tests.fakes.backend import HashModel
from tests.fakes.draft_backend import draft_backend
from tests.fakes.vocabulary import ByteVocabulary

_HEADS = [tuple((seed * 31 + i * (seed + 3)) % 200 for i in range(60)) for seed in range(3)]
_TENANTS = ("", "", "one", "two")
_ADAPTERS = (
    NO_ADAPTERS,
    NO_ADAPTERS,
    AdapterSet(((0, 1.0),), "a*1.0"),
    AdapterSet(((0, 0.5),), "a*0.5"),
    AdapterSet(((0, 1.0), (1, 1.0)), "a*1.0+b*1.0"),
)
_SEEDED = SamplingParams(temperature=3.0, top_p=0.9, seed=7)
_PENALISED = SamplingParams(temperature=0.0, frequency_penalty=1.5, repeat_penalty=1.2)


@st.composite
def _asks(draw: st.DrawFn) -> Ask:
    head = draw(st.sampled_from(_HEADS))[: draw(st.sampled_from([0, 10, 17, 30, 60]))]
    tail = tuple(draw(st.lists(st.integers(0, 255), min_size=1, max_size=draw(st.sampled_from([2, 25])))))
    echo = draw(st.booleans())
    max_tokens = draw(st.integers(0 if echo else 1, 20))
    return Ask(
        prompt=head + tail,
        n=draw(st.sampled_from([1, 1, 1, 2, 3])),
        max_tokens=max_tokens,
        min_tokens=draw(st.sampled_from([0, 0, min(3, max_tokens)])),
        ignores_end=draw(st.booleans()),
        stop=draw(st.sampled_from([(), (), ("ab", "ba"), ("a",), ("cde", "h"), ("é",)])),
        sampling=draw(st.sampled_from([GREEDY, GREEDY, _SEEDED, _PENALISED])),
        prediction=draw(st.sampled_from([None, (), (7, 7, 7)])),
        logprobs=draw(st.sampled_from([None, None, 0, 3])),
        echo=echo,
        tenant=draw(st.sampled_from(_TENANTS)),
        priority=draw(st.sampled_from([0, 0, -1, 3])),
        adapters=draw(st.sampled_from(_ADAPTERS)),
    )


class CoreMachine(RuleBasedStateMachine):
    """``submit``, ``cancel``, failures and steps in any order."""

    bench: Bench
    arrived: list[Sequence]
    clean: bool
    places: int
    """Places of adapters that were ever used."""
    gone: set[int]
    trials: int
    """Tokens that were computed to try adapters."""

    @initialize(
        slots=st.integers(1, 4),
        steady=st.integers(1, 12),
        shares_prefixes=st.sampled_from([True, True, True, False]),
        is_one_pass=st.booleans(),
        pool_tokens=st.sampled_from([None, 128, 150, 300]),
        prefix_memory_bytes=st.sampled_from([0, 500, 1500, 100_000]),
        target_s=st.sampled_from([0.25, 0.01]),
        wrong_every=st.sampled_from([None, 0, 1, 3]),
        draft_s=st.sampled_from([1e-6, 1e-4, 2e-3]),
    )
    def start(
        self,
        slots: int,
        steady: int,
        shares_prefixes: bool,
        is_one_pass: bool,
        pool_tokens: int | None,
        prefix_memory_bytes: int,
        target_s: float,
        wrong_every: int | None,
        draft_s: float,
    ) -> None:
        """``wrong_every`` is how often the draft model is wrong; without, there is none."""
        draft = None
        if wrong_every is not None and shares_prefixes:
            draft = draft_backend(wrong_every, slots=slots, pool_tokens=pool_tokens, batch_tokens=8)
        budget = StepBudget(target_s=target_s, minimum=1, steady=steady, maximum=16)
        self.bench = Bench(
            slots=slots,
            budget=budget,
            shares_prefixes=shares_prefixes,
            is_one_pass=is_one_pass,
            pool_tokens=pool_tokens,
            prefix_memory_bytes=prefix_memory_bytes,
            draft=draft,
            draft_s=draft_s,
        )
        self.arrived = []
        self.places, self.gone, self.trials = 2, set(), 0

    @rule(fails=st.sampled_from([None, None, "decode", "restore"]))
    def adapter_comes(self, fails: str | None) -> None:
        """Whoever runs: nobody's answer is another for it, unless what was lent cannot be given back."""
        backend, before = self.bench.backend, self.bench.backend.computed
        if fails == "decode":
            backend.fail_decode = _once()
        elif fails == "restore":
            backend.fail_load = _once()
        order = AdapterOrder(self.places, Adapter(f"number {self.places}", "a.gguf"))
        self.places += 1
        failures = self.bench.core.adapt(order)
        self.bench.take_failures(failures)
        backend.fail_decode = backend.fail_load = lambda: False
        self.trials += backend.computed - before
        if fails == "decode":
            assert isinstance(order.done.exception(), ModelLoadFailed)
        assert (order.place in backend.loaded) == (order.done.exception() is None)
        assert fails == "restore" or not failures

    @precondition(lambda self: len(self.gone) < self.places)
    @rule(data=st.data())
    def adapter_goes(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(sorted(set(range(self.places)) - self.gone)))
        self.gone.add(place)
        if place in self.bench.backend.loaded:
            assert not self.bench.core.adapt(AdapterOrder(place))

    @invariant()
    def frees_adapters_that_nobody_uses(self) -> None:
        used = {place for s in self.arrived if s.is_live for place, _ in s.adapters.scales}
        assert not self.bench.backend.loaded & (self.gone - used)
        assert self.bench.backend.loaded >= used

    @rule(ask=_asks())
    def submit(self, ask: Ask) -> None:
        if self.gone.intersection(place for place, _ in ask.adapters.scales):
            ask = replace(ask, adapters=NO_ADAPTERS)
        self.arrived += self.bench.sequences[self.bench.submit(ask)]

    @rule(ask=_asks(), tails=st.lists(st.integers(0, 255), min_size=2, max_size=5))
    def submit_with_one_head(self, ask: Ask, tails: list[int]) -> None:
        for tail in tails:
            self.submit(Ask(prompt=(*_HEADS[0], tail, *ask.prompt[-3:]), max_tokens=max(1, ask.max_tokens)))

    @rule(ask=_asks(), tails=st.lists(st.integers(0, 255), min_size=2, max_size=5))
    def submit_one_head_of_many_tenants(self, ask: Ask, tails: list[int]) -> None:
        for tail, tenant in zip(tails, _TENANTS[1:] * 2, strict=False):
            self.submit(replace(ask, prompt=(*_HEADS[0], tail), n=1, tenant=tenant))

    @rule(ask=_asks(), tails=st.lists(st.integers(0, 255), min_size=2, max_size=6))
    def submit_one_head_with_many_adapters(self, ask: Ask, tails: list[int]) -> None:
        for tail, adapters in zip(tails, _ADAPTERS[1:] * 2, strict=False):
            self.submit(replace(ask, prompt=(*_HEADS[0], tail), n=1, adapters=adapters))

    @rule(ask=_asks())
    def continue_a_chat(self, ask: Ask) -> None:
        """The prompt of an earlier request, its answer, and something new; whoever it is that continues it."""
        for earlier in reversed(self.arrived):
            if earlier.phase is Phase.FINISHED and earlier.length < 90:
                prompt = (*earlier.tokens[: earlier.length].tolist(), *ask.prompt[:20])
                self.submit(
                    Ask(
                        prompt=prompt,
                        max_tokens=max(1, ask.max_tokens),
                        tenant=ask.tenant,
                        adapters=ask.adapters,
                    )
                )
                return

    @rule(ask=_asks(), wrong_at=st.integers(0, 20))
    def predict(self, ask: Ask, wrong_at: int) -> None:
        """A prediction that is right but for one token."""
        answer = list(answer_alone(self.bench.model, replace(ask, echo=False)).text.encode())
        answer[wrong_at : wrong_at + 1] = [0]
        self.submit(replace(ask, prediction=tuple(answer)))

    @precondition(lambda self: self.arrived)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted({s.request for s in self.arrived})))
        is_over = all(not s.is_live for s in self.bench.sequences[number])
        if is_over:
            self.bench.core.cancel(number)  # the server may be late: nothing happens
        else:
            self.bench.cancel(number)

    @precondition(lambda self: self.bench.core.has_work)
    @rule(count=st.integers(1, 6))
    def steps(self, count: int) -> None:
        for _ in range(count):
            if self.bench.core.has_work:
                self._checked_step()

    @precondition(lambda self: self.bench.core.has_work)
    @rule()
    def failing_decode(self) -> None:
        self.bench.backend.fail_decode = _once()
        self.bench.step()
        self.bench.backend.fail_decode = lambda: False
        assert self.bench.failed

    @precondition(lambda self: self.bench.core.has_work)
    @rule()
    def refused_restore(self) -> None:
        """What was saved is garbage: then the prompt is computed, and nobody notices."""
        self.bench.backend.fail_load = lambda: True
        self._checked_step()
        self.bench.backend.fail_load = lambda: False

    @precondition(lambda self: self.bench.core.has_work and self.bench.draft)
    @rule(nth=st.integers(1, 4), of_transfer=st.booleans(), count=st.integers(1, 6))
    def failing_draft_model(self, nth: int, of_transfer: bool, count: int) -> None:
        """Whatever fails in it, and whenever: no request does."""
        draft = self.bench.draft
        assert draft is not None
        if of_transfer:
            draft.fail_transfer = _once(nth)
        else:
            draft.fail_decode = _once(nth)
        self.steps(count)
        draft.fail_transfer = draft.fail_decode = lambda: False

    @precondition(lambda self: self.bench.core.has_work)
    @rule(nth=st.integers(1, 3))
    def failing_transfer(self, nth: int) -> None:
        self.bench.backend.fail_transfer = _once(nth)
        self.bench.step()
        self.bench.backend.fail_transfer = lambda: False

    def _checked_step(self) -> None:
        decoding = [s for s in self.arrived if s.phase is Phase.DECODE]
        lengths = [s.length for s in decoding]
        self.bench.step()
        assert all(
            s.length > length
            for s, length in zip(decoding, lengths, strict=True)
            if s.adapters == self.bench.backend.computed_with
        ), "a running stream got no token in a step of its adapters"
        step = self.bench.backend.steps[-1]
        assert sum(count for _, count in step) <= self.bench.batch_tokens

    @invariant()
    def admits_in_order(self) -> None:
        for line in {(s.priority, s.tenant, s.adapters) for s in self.arrived}:
            live = [s for s in self.arrived if s.is_live and (s.priority, s.tenant, s.adapters) == line]
            phases = [s.phase is Phase.WAITING for s in live]
            assert phases == sorted(phases), "a younger sequence was admitted before an older one in its line"

    @invariant()
    def shares_within_scopes(self) -> None:
        self.bench.check_sharing()

    @invariant()
    def accounts_for_all_work(self) -> None:
        """What is said to be cached really was: nothing is computed that no sequence owns up to."""
        assert self.bench.backend.computed == self.bench.computed_by_sequences() + self.trials

    @invariant()
    def counts_true(self) -> None:
        stats = self.bench.core.stats
        assert stats.waiting == sum(s.phase is Phase.WAITING for s in self.arrived)
        assert stats.running == sum(s.phase in (Phase.PREFILL, Phase.DECODE) for s in self.arrived)
        assert 0 <= stats.kv_tokens <= stats.kv_capacity_tokens

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            while self.bench.core.has_work:
                self._checked_step()
            self.bench.check_answers()
            self.bench.check_nothing_leaked()


def _once(nth: int = 1) -> Any:
    """True at the ``nth`` call alone."""
    calls = iter([*([False] * (nth - 1)), True])
    return lambda: next(calls, False)


TestCore = CoreMachine.TestCase
TestCore.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_the_fake_model_says_every_kind_of_thing() -> None:
    """The machine above proves little unless its answers end in every way there is."""
    model = HashModel(ByteVocabulary.size, ALPHABET)
    seen = [answer_alone(model, Ask(prompt=(i, 3 * i), max_tokens=12, stop=("ab",))) for i in range(1, 200)]
    assert {"stop", "length"} == {e.reason for e in seen}
    assert any("é" in e.text for e in seen)
    assert any("�" in e.text for e in seen)


@pytest.mark.parametrize("max_tokens", [1, 2])
def test_the_tokens_of_pieces_add_up_also_when_a_token_makes_no_text(max_tokens: int) -> None:
    bench = Bench()
    for i in range(40):
        bench.submit(Ask(prompt=(i, 5), max_tokens=max_tokens + 6, ignores_end=True))
    bench.run()
    bench.check_answers()


def test_an_adapter_is_freed_when_the_last_that_uses_it_is_lost_over_another() -> None:
    """The new one's trial borrows the only slot, which cannot be given back to the request that ran in it."""
    bench = Bench(slots=1, slot_tokens=64, batch_tokens=16)
    bench.submit(Ask(prompt=(1, 2, 3), max_tokens=20, ignores_end=True, adapters=_ADAPTERS[2]))
    bench.step()
    assert not bench.core.adapt(AdapterOrder(0))
    assert 0 in bench.backend.loaded, "it is in use"
    bench.backend.fail_load = _once()
    failures = bench.core.adapt(AdapterOrder(2, Adapter("another", "a.gguf")))
    bench.take_failures(failures)
    assert failures
    assert 0 not in bench.backend.loaded


def test_prefixes_are_saved_for_as_long_as_somebody_comes_back_for_them() -> None:
    bench = Bench(slots=1, slot_tokens=128, prefix_memory_bytes=1 << 20, batch_tokens=32)

    def ask(*prompt: int) -> int:
        number = bench.submit(Ask(prompt=prompt, max_tokens=4, ignores_end=True))
        bench.run()
        finish = bench.answers[number][0].finish
        assert finish is not None
        return finish.cached_tokens

    strangers = [ask(*[place % 200, place // 200, *range(100)]) for place in range(400)]
    assert not any(strangers)
    in_vain = bench.backend.saves
    assert in_vain < 100
    chats = [
        ask(*[number, 7, *range(100 + turn % 20)]) >= 100
        for turn in range(40)
        for number in (201, 202, 203, 204)
    ]
    assert not all(chats[4:20])
    assert all(chats[100:]), "they were missed"
    bench.check_answers()
