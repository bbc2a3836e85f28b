"""Compiling: what is refused, what is remembered, and grammars made to harm."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import numpy as np
import pytest
from llguidance import LLParserLimits

from engine.constraint.compiler import ConstraintCompiler
from engine.constraint.spec import ConstraintSpec, Gbnf, JsonObject, JsonSchema, Lark, Regex
from engine.errors import InvalidRequest
from engine.sampling.params import SamplingParams
from engine.sampling.sampler import Sampler
from engine.sampling.scratch import Scratch
from tests.engine.constraint.walk import SpecialByteVocabulary, accepts, feed

DEEP = 20_000
BOMBS: dict[str, ConstraintSpec] = {
    "schema nested 10,000 deep": JsonSchema('{"items":' * 7_000 + "{}" + "}" * 7_000),
    "schema that doubles": JsonSchema(
        json.dumps(
            {
                "allOf": [
                    {"anyOf": [{"properties": {f"{i}{j}": {}}, "required": [f"{i}{j}"]} for j in range(6)]}
                    for i in range(10)
                ]
            }
        )
    ),
    "schema of itself": JsonSchema('{"$ref": "#"}'),
    "references in a circle": JsonSchema(
        '{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}'
    ),
    "multiple of a large prime": JsonSchema('{"type": "integer", "multipleOf": 1000003}'),
    "pattern of a billion": JsonSchema('{"type": "string", "pattern": "^((a{1000}){1000}){1000}$"}'),
    "length with twelve digits": JsonSchema('{"type": "string", "maxLength": 1000000000000}'),
    "regex of a million": Regex("(a{1000}){1000}"),
    "regex of a million, three times": Regex("((a{100}){100}){100}"),
    "regex of 20,000 parentheses": Regex("(" * DEEP + "a" + ")" * DEEP),
    "regex of 60,000": Regex("a{60000}"),
    "regex with 3,000 choices": Regex("(a?){3000}a{3000}"),
    "regex with 20,000 stars": Regex(".*".join(chr(97 + i % 26) for i in range(20_000))),
    "Lark with 20,000 parentheses": Lark("start: " + "(" * DEEP + '"a"' + ")" * DEEP),
    "Lark chain of 4,000 rules": Lark(
        "start: r0\n" + "\n".join(f"r{i}: r{i + 1}" for i in range(4000)) + '\nr4000: "x"'
    ),
    "Lark terminals that double": Lark(
        "start: R0\n" + "\n".join(f"R{i}: R{i + 1} R{i + 1}" for i in range(60)) + '\nR60: "x"'
    ),
    "Lark rule of itself": Lark("start: a\na: start"),
    "Lark repetition of a million": Lark('start: ("a"{1000}){1000}'),
    "GBNF with 20,000 parentheses": Gbnf("root ::= " + "(" * DEEP + '"a"' + ")" * DEEP),
    "GBNF chain of 4,000 rules": Gbnf(
        "root ::= r0\n" + "\n".join(f"r{i} ::= r{i + 1}" for i in range(4000)) + '\nr4000 ::= "x"'
    ),
    "GBNF with 10,000 empty choices": Gbnf("root ::= " + '| "a" ' * 10_000),
    "more than 64 KB": Regex("a" * (64 * 1024 + 1)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_time_and_harms_nobody(compiler: ConstraintCompiler, name: str) -> None:
    neighbour = compiler.compile(Regex("ab"))
    started_s = time.monotonic()
    with pytest.raises(InvalidRequest) as refusal:
        compiler.compile(BOMBS[name])
    # A guard and no measurement: one second is the limit, and the machine may be busy.
    assert time.monotonic() - started_s < 10
    assert refusal.value.param == "response_format"
    assert len(refusal.value.message) < 500
    assert accepts(neighbour, "ab")


@pytest.mark.parametrize(
    ("spec", "right", "wrong"),
    [
        (
            JsonSchema(
                '{"$defs": {"n": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/n"}, '
                '{"type": "null"}]}}, "required": ["next"], "additionalProperties": false}}, "$ref": "#/$defs/n"}'
            ),
            '{"next": {"next": {"next": null}}}',
            '{"next": {}}',
        ),
        (
            JsonSchema(json.dumps({"enum": [f"value {i}" for i in range(3000)]})),
            '"value 2999"',
            '"value 3000"',
        ),
        (JsonSchema("true"), "[1]", "["),
        (JsonSchema('{"type": "string", "maxLength": 100000}'), '"a"', '"'),
        (JsonObject(), '{\n  "a" : [ ]\n}', "[]"),
        (Regex(r"\d{4}-\d\d"), "2024-05", "2024-5"),
        (Regex("(a|b)*a(a|b){200}"), "a" * 201, "b" * 201),
        (Lark('start: start "x" | "y"'), "yxx", "x"),
        (Lark('start: a start "x" | "y"\na: b\nb: ""'), "yx", "x"),
    ],
)
def test_what_is_large_or_recursive_but_honest_works(
    compiler: ConstraintCompiler, spec: ConstraintSpec, right: str, wrong: str
) -> None:
    constraint = compiler.compile(spec)
    assert accepts(constraint, right)
    assert not accepts(constraint, wrong)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (JsonSchema('{"type": "strin"}'), "strin"),
        (JsonSchema('{"type": "string", "format": "iri"}'), "iri"),
        (JsonSchema('{"oneOf": [{"minLength": 1}, {"maxLength": 2}]}'), "oneOf"),
        (JsonSchema('{"type": "integer", "minimum": 2, "maximum": 1}'), "minimum"),
        (JsonSchema('{"$ref": "https://example.com/schema"}'), "example"),
        (JsonSchema('{"$ref": "#/$defs/none"}'), "none"),
        (JsonSchema('{"type": "string", "pattern": "(?=a)b"}'), "look"),
        (JsonSchema('{"type": "object", "properties": {"a": {}}, "maxProperties": 3}'), "maxProperties"),
        (JsonSchema("false"), "false"),
        (Regex("(a"), "unclosed"),
        (Regex(r"(a)\1"), "backreferences"),
        (Lark("start: nothing"), "nothing"),
        (Lark('start: %json {"x-guidance": {"lenient": true}, "not": {}}'), "not"),
        (Lark("start: @other"), "other"),
        (Regex("\ud800"), "surrogates"),
    ],
)
def test_what_cannot_be_enforced_is_refused_with_the_reason(
    compiler: ConstraintCompiler, spec: ConstraintSpec, reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason) as refusal:
        compiler.compile(spec, param="guided")
    assert refusal.value.param == "guided"


@pytest.mark.parametrize("spec", [Regex("ab{5}"), Regex("(never"), JsonSchema('{"not": {}}')])
def test_nothing_is_compiled_twice(
    compiler: ConstraintCompiler, monkeypatch: pytest.MonkeyPatch, spec: ConstraintSpec
) -> None:
    def outcome() -> str:
        try:
            compiler.compile(spec)
        except InvalidRequest as error:
            return error.message
        return ""

    first = outcome()
    monkeypatch.setattr(compiler, "_build", lambda _: pytest.fail("compiled again"))
    assert outcome() == first


def test_what_is_remembered_is_bounded(compiler: ConstraintCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        compiler.compile(Regex(f"bounded{number}"))
    monkeypatch.setattr(compiler, "_build", lambda spec: pytest.fail(f"compiled {spec} again"))
    compiler.compile(Regex("bounded19"))
    with pytest.raises(pytest.fail.Exception):
        compiler.compile(Regex("bounded0"))


def test_a_grammar_that_outgrew_its_limits_starts_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies share their lexer: one that is full must not spoil the grammar for all who come later."""
    tight = LLParserLimits(max_lexer_states=600, verbose_errors=False)
    monkeypatch.setattr("engine.constraint.compiler.limits", lambda: tight)
    compiler = ConstraintCompiler(SpecialByteVocabulary())
    try:
        spec = Regex("(a|b)*a(a|b){60}x")
        first = compiler.compile(spec)
        text = "".join(random.Random(0).choices("ab", k=4000))
        with pytest.raises(InvalidRequest, match="outgrew"):
            feed(first, text)
        feed(compiler.compile(spec), "ab")
    finally:
        compiler.close()


def test_a_question_that_outgrows_the_limits_fails_as_the_mask_does(monkeypatch: pytest.MonkeyPatch) -> None:
    tight = LLParserLimits(max_lexer_states=40, verbose_errors=False)
    monkeypatch.setattr("engine.constraint.compiler.limits", lambda: tight)
    vocabulary = SpecialByteVocabulary()
    compiler = ConstraintCompiler(vocabulary)
    sampler = Sampler(
        SamplingParams(temperature=0),
        prompt=np.array([], np.int32),
        choice=0,
        end_tokens=vocabulary.end_tokens,
        scratch=Scratch(vocabulary.size),
    )
    constraint = compiler.compile(Regex("(a|b)*a(a|b){12}x"))

    def write() -> None:
        for letter in random.Random(1).choices(b"ab", k=400):
            logits = np.zeros(vocabulary.size, np.float32)
            logits[letter] = 1.0
            assert constraint.forced() == []
            assert constraint.can_be_asked
            constraint.accept([sampler.sample(logits, may_end=True, limit=constraint)])

    try:
        with pytest.raises(InvalidRequest, match="outgrew"):
            write()
    finally:
        compiler.close()


def test_a_canary_that_died_is_replaced() -> None:
    compiler = ConstraintCompiler(SpecialByteVocabulary())
    try:
        compiler.compile(Regex("a"))
        assert compiler._tools is not None
        process = compiler._tools.canary._process._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        compiler.compile(Regex("b"))
    finally:
        compiler.close()
