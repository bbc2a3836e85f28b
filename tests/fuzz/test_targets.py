"""The short form of ``make fuzz``: some hundred inputs of each target, and proof that the targets see anything."""

from __future__ import annotations

import random

import pytest

from engine.constraint.gbnf import lark_of_gbnf
from engine.constraint.schema_check import check_schema
from engine.errors import InvalidRequest
from tests.fuzz import campaign
from tests.fuzz.byte_source import ByteSource
from tests.fuzz.mutator import Mutator
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS, gbnf, http_protocol, schema_check

RUNS = 400


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "grammar"])
def test_nothing_fails_in_some_hundred_inputs(name: str) -> None:
    outcome = campaign.run(TARGETS[name], runs=RUNS, seed=random.randrange(1 << 30))
    assert not [failure.reason for failure in outcome.failures], outcome.failures
    assert outcome.runs == RUNS


def test_grammars_end_nobody() -> None:
    outcome = campaign.run(TARGETS["grammar"], runs=100, seed=random.randrange(1 << 30))
    assert not outcome.failures


def test_a_fault_is_found_shortened_and_told_once_with_its_place() -> None:
    def check(data: bytes) -> None:
        assert b"!" not in data, "a mark"

    outcome = campaign.run(Target("marks", "", check, seeds=(b"some!text",)), runs=1, seed=0)
    (failure,) = outcome.failures
    assert failure.data == b"!"
    assert failure.reason.startswith("AssertionError at test_targets.py:")
    assert not outcome.is_sound


def test_a_slow_input_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "RUN_LIMIT_S", -1.0)
    outcome = campaign.run(Target("any", "", lambda data: None), runs=1, seed=0)
    assert "it took" in outcome.failures[0].reason


def test_a_seed_gives_the_same_inputs() -> None:
    one, other = (Mutator((b"seed",), (b"word",), 5) for _ in range(2))
    assert [one.next() for _ in range(50)] == [other.next() for _ in range(50)]


def inputs(target: Target) -> list[bytes]:
    mutator = Mutator(target.seeds, target.words, 1)
    return [*target.seeds, *(mutator.next() for _ in range(600))]


def test_requests_get_through_the_protocol_and_others_do_not() -> None:
    """A target that only ever sees refusals proves nothing."""
    told = [
        http_protocol.house().meet([data]) for data in (b"GET /a HTTP/1.1\r\nhost: b\r\n\r\n", b"GET\r\n\r\n")
    ]
    assert [len(seen) for _, _, seen in told] == [1, 0]
    assert told[0][0].endswith(b"ok")
    assert told[1][0].startswith(b"HTTP/1.1 400 ")
    assert told[1][1], "closed"


def test_grammars_and_schemas_pass_and_are_refused() -> None:
    schemas, grammars = [0, 0], [0, 0]
    for data in inputs(schema_check.TARGET):
        try:
            check_schema(schema_check.schema_text(ByteSource(data)))
            schemas[0] += 1
        except InvalidRequest:
            schemas[1] += 1
    for data in inputs(gbnf.TARGET):
        try:
            lark_of_gbnf(ByteSource(data).text(gbnf.PARTS, 200))
            grammars[0] += 1
        except ValueError:
            grammars[1] += 1
    assert min(*schemas, *grammars) >= 5, (schemas, grammars)
