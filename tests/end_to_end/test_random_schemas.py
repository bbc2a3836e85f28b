"""The bundled model under random schemas: what it ends is valid, and what its length cuts is the beginning of that."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.constraint.compiler import ConstraintCompiler
from engine.constraint.spec import JsonSchema
from tests.end_to_end.live_server import LiveServer
from tests.engine.constraint.schemas import Schema, around, schemas
from tests.engine.constraint.walk import SpecialByteVocabulary

pytestmark = pytest.mark.model

CHAT = "/v1/chat/completions"
AT_ONCE = 8
"""As many as the server runs at once."""
_SETTINGS: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    # A failure is printed as it is: to shrink it would ask the model hundreds of times.
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture(scope="module")
def compiler() -> Iterator[ConstraintCompiler]:
    """Tells, byte by byte, what a schema allows."""
    compiler = ConstraintCompiler(SpecialByteVocabulary())
    yield compiler
    compiler.close()


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield pool


def ask(server: LiveServer, fields: dict[str, Any], seed: int) -> dict[str, Any]:
    """The one choice of an answer; empty where the schema was refused, by name.

    Many schemas of an example are alike: with a seed for each, one answer that never ends is not that of all.
    """
    body = {"messages": [{"role": "user", "content": "Give a short example."}], "max_tokens": 8, **fields}
    reply = server.post(CHAT, body | {"temperature": 1.0, "seed": seed})
    if reply.status_code == 400:
        assert reply.json()["error"]["param"].startswith(("response_format", "tools"))
        return {}
    assert reply.status_code == 200, reply.text
    choice: dict[str, Any] = reply.json()["choices"][0]
    return choice


def check(compiler: ConstraintCompiler, schema: Schema, written: str, *, is_whole: bool) -> None:
    if is_whole:
        # Formats are checked elsewhere: masks know their shape, not that 2023 had no 29 February.
        jsonschema.Draft202012Validator(schema).validate(json.loads(written))
        return
    raw = list(written.encode())
    assert compiler.compile(JsonSchema(json.dumps(schema))).count_allowed(raw) == len(raw), (schema, written)


def test_whatever_the_schema_the_answer_is_valid(
    server: LiveServer, compiler: ConstraintCompiler, pool: ThreadPoolExecutor
) -> None:
    ends: Counter[str] = Counter()

    @settings(max_examples=31, **_SETTINGS)
    @given(st.lists(schemas, min_size=AT_ONCE, max_size=AT_ONCE))
    def answers(made: list[Schema]) -> None:
        def response_format(schema: Schema) -> dict[str, Any]:
            named = {"name": "random", "strict": True, "schema": schema}
            return {"response_format": {"type": "json_schema", "json_schema": named}}

        asked = [response_format(schema) for schema in made]
        choices = pool.map(partial(ask, server), asked, count())
        for schema, choice in zip(made, choices, strict=True):
            reason = choice.get("finish_reason", "refused")
            ends[reason] += 1
            if choice:
                check(compiler, schema, choice["message"]["content"], is_whole=reason == "stop")

    answers()
    assert ends["stop"] + ends["length"] >= 200, ends
    assert ends["stop"] >= 10, ends


def test_whatever_the_schema_the_arguments_are_valid(
    server: LiveServer, compiler: ConstraintCompiler, pool: ThreadPoolExecutor
) -> None:
    ends: Counter[str] = Counter()

    @settings(max_examples=2, **_SETTINGS)
    @given(st.lists(schemas, min_size=AT_ONCE, max_size=AT_ONCE))
    def calls(made: list[Schema]) -> None:
        parameters: list[Schema] = [json.loads(around(copy.deepcopy(schema))) for schema in made]
        choices = pool.map(partial(ask, server), map(_one_tool, parameters), count())
        for schema, choice in zip(parameters, choices, strict=True):
            reason = choice.get("finish_reason", "refused")
            ends[reason] += 1
            for call in choice.get("message", {}).get("tool_calls", ()):
                assert call["function"]["name"] == "act"
                check(compiler, schema, call["function"]["arguments"], is_whole=reason == "tool_calls")

    calls()
    assert ends["tool_calls"] >= 2, ends
    assert ends.keys() <= {"tool_calls", "length", "refused"}


def _one_tool(parameters: Schema) -> dict[str, Any]:
    tool = {"type": "function", "function": {"name": "act", "parameters": parameters}}
    return {
        "max_tokens": 48,
        "tools": [tool],
        "tool_choice": {"type": "function", "function": {"name": "act"}},
    }
