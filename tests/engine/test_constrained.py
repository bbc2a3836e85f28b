"""Constraints in the engine loop: valid answers whatever the model would say, forced tokens included."""

from __future__ import annotations

import json
from collections.abc import Iterator

import hypothesis.strategies as st
import jsonschema
import msgspec
import pytest
from hypothesis import given, settings

from engine.constraint.compiler import ConstraintCompiler
from engine.constraint.constraint import Constraint
from engine.constraint.spec import ConstraintSpec, JsonSchema, Regex
from engine.sampling.params import SamplingParams
from tests.engine.answer_alone import GREEDY, Ask, log_softmax
from tests.engine.bench import Bench
from tests.fakes.vocabulary import ByteVocabulary

_LONG_KEY = "a_key_that_is_much_longer_than_what_a_running_stream_computes_at_once"
_SCHEMA = {
    "type": "object",
    "properties": {
        _LONG_KEY: {"type": "boolean"},
        "size": {"enum": ["small", "large"]},
        "tags": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3},
    },
    "required": [_LONG_KEY, "size", "tags"],
    "additionalProperties": False,
}
_WARM = SamplingParams(temperature=5.0, seed=3)


@pytest.fixture(scope="module")
def compiler() -> Iterator[ConstraintCompiler]:
    compiler = ConstraintCompiler(ByteVocabulary())
    yield compiler
    compiler.close()


def constrained(bench: Bench, compiler: ConstraintCompiler, spec: ConstraintSpec, ask: Ask) -> int:
    number = bench.submit(ask)
    for sequence in bench.sequences[number]:
        sequence.constraint = compiler.compile(spec)
    return number


@settings(deadline=None, max_examples=30)
@given(seeds=st.lists(st.integers(0, 1000), min_size=1, max_size=6), slots=st.integers(1, 4))
def test_every_answer_that_is_not_cut_validates(
    compiler: ConstraintCompiler, seeds: list[int], slots: int
) -> None:
    bench = Bench(slots=slots, slot_tokens=256)
    spec = JsonSchema(json.dumps(_SCHEMA))
    numbers = [
        constrained(
            bench,
            compiler,
            spec,
            Ask(prompt=(1, 2, seed % 5), max_tokens=240, sampling=SamplingParams(temperature=5.0, seed=seed)),
        )
        for seed in seeds
    ]
    free = bench.submit(Ask(prompt=(9,), max_tokens=30))
    bench.run()
    for number in numbers:
        (answer,) = bench.answers[number]
        assert answer.finish is not None
        assert answer.finish.reason == "stop"
        jsonschema.validate(json.loads(answer.text), _SCHEMA)
        assert answer.finish.forced_tokens > len(_LONG_KEY)
        assert answer.tokens == answer.finish.completion_tokens == len(answer.text.encode())
    assert bench.answers[free][0].finish is not None
    bench.check_nothing_leaked()


def test_forced_tokens_are_computed_in_few_steps_and_count_as_cached_work_of_none(
    compiler: ConstraintCompiler,
) -> None:
    bench = Bench(slot_tokens=256)
    number = constrained(
        bench, compiler, JsonSchema(json.dumps(_SCHEMA)), Ask(prompt=(1,), max_tokens=240, sampling=_WARM)
    )
    bench.run()
    (answer,) = bench.answers[number]
    assert len(bench.backend.steps) < answer.tokens / 2
    assert bench.backend.computed == bench.computed_by_sequences()


@pytest.mark.parametrize("limit", [1, 5, 40, 90])
def test_a_limit_cuts_also_within_a_forced_run(compiler: ConstraintCompiler, limit: int) -> None:
    bench = Bench(slot_tokens=256)
    number = constrained(
        bench, compiler, JsonSchema(json.dumps(_SCHEMA)), Ask(prompt=(1,), max_tokens=limit, sampling=_WARM)
    )
    bench.run()
    (answer,) = bench.answers[number]
    assert answer.finish is not None
    assert (answer.finish.reason, answer.tokens) == ("length", limit)
    bench.check_nothing_leaked()


def test_a_stop_string_within_a_forced_run_stops_there(compiler: ConstraintCompiler) -> None:
    bench = Bench(slot_tokens=256)
    ask = Ask(prompt=(1,), max_tokens=200, stop=("longer",), sampling=GREEDY)
    number = constrained(bench, compiler, JsonSchema(json.dumps(_SCHEMA)), ask)
    bench.run()
    (answer,) = bench.answers[number]
    assert answer.text == '{"a_key_that_is_much_'


@pytest.mark.parametrize(("sampling", "most_masks"), [(GREEDY, 2), (_WARM, 62)])
def test_a_likeliest_token_that_is_allowed_needs_no_mask(
    compiler: ConstraintCompiler, monkeypatch: pytest.MonkeyPatch, sampling: SamplingParams, most_masks: int
) -> None:
    masks = 0
    compute = Constraint._compute

    def counted(constraint: Constraint) -> None:
        nonlocal masks
        masks += 1
        compute(constraint)

    monkeypatch.setattr(Constraint, "_compute", counted)
    bench = Bench(slot_tokens=256)
    ask = Ask(
        prompt=(1,), max_tokens=100, sampling=msgspec.structs.replace(sampling, logit_bias={ord("a"): 99.0})
    )
    number = constrained(bench, compiler, Regex("[ab]{60}"), ask)
    bench.run()
    assert bench.answers[number][0].text == "a" * 60
    assert masks <= most_masks
    assert sampling is GREEDY or masks >= 60, "whoever draws by chance needs one for each token"


def test_choices_of_one_request_follow_their_own_constraints(compiler: ConstraintCompiler) -> None:
    bench = Bench(slot_tokens=256)
    ask = Ask(prompt=(1,), n=3, max_tokens=20, sampling=_WARM)
    number = constrained(bench, compiler, Regex("(ab|cd){2,6}x"), ask)
    bench.run()
    texts = [answer.text for answer in bench.answers[number]]
    assert all(text.endswith("x") for text in texts)
    assert len(set(texts)) > 1


def test_a_whole_answer_ends_without_asking_for_an_end(compiler: ConstraintCompiler) -> None:
    bench = Bench()
    number = constrained(bench, compiler, Regex("yes"), Ask(prompt=(1,), max_tokens=20))
    bench.run()
    (answer,) = bench.answers[number]
    assert (answer.text, answer.tokens) == ("yes", 3)


def test_bans_that_leave_nothing_of_the_constraint_fail_the_request_alone(
    compiler: ConstraintCompiler,
) -> None:
    bench = Bench()
    bans = SamplingParams(temperature=0.0, logit_bias={ord("e"): -100.0, ord("E"): -100.0})
    banned = constrained(bench, compiler, Regex("y[ef]s"), Ask(prompt=(1,), max_tokens=9, sampling=bans))
    stuck = constrained(bench, compiler, Regex("y[eE]s"), Ask(prompt=(2,), max_tokens=9, sampling=bans))
    other = bench.submit(Ask(prompt=(3,), max_tokens=9))
    bench.run()
    assert bench.answers[banned][0].text == "yfs"
    assert "leave no token" in bench.failed[stuck]
    assert bench.answers[other][0].finish is not None
    bench.check_nothing_leaked()


def test_under_log_probabilities_nothing_is_forced_and_each_token_has_its_own(
    compiler: ConstraintCompiler,
) -> None:
    bench = Bench(slot_tokens=256)
    ask = Ask(prompt=(1, 2), max_tokens=200, logprobs=2)
    number = constrained(bench, compiler, JsonSchema(json.dumps(_SCHEMA)), ask)
    bench.run()
    (answer,) = bench.answers[number]
    assert answer.finish is not None
    assert answer.finish.forced_tokens == 0
    tokens = [token.raw[0] for token in answer.logprobs]
    assert bytes(tokens).decode() == answer.text
    for at, token in enumerate(answer.logprobs):
        exact = log_softmax(bench.model.logits_after([*ask.prompt, *tokens[:at]]))
        # The model's own, whatever the schema leaves of them.
        assert token.logprob == pytest.approx(exact[tokens[at]], abs=1e-5)
        assert token.top[0].logprob == pytest.approx(exact.max(), abs=1e-5)
