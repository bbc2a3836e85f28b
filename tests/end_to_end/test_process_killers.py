"""Inputs that end llama.cpp's process when they reach it, sent by a client: each gets a typed refusal, or an answer
where our own grammars and samplers can do what llama.cpp's cannot; and the worker afterwards is the one from before.

The rows that no request can reach are elsewhere: batches, rows, slots, states and freed handles in
tests/engine/native/test_gate.py and beside it, damaged files in tests/engine/test_real_loading.py.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.end_to_end.live_server import MODEL, LiveServer

pytestmark = pytest.mark.model

PROMPT: Final = {"prompt": "Once", "max_tokens": 4}
BEYOND: Final = 2**31 - 1
CHAIN: Final = "\n".join(f"r{number} ::= r{number + 1}" for number in range(100_000))

KILLERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "a grammar with hidden left recursion": (
        "/v1/completions",
        PROMPT | {"grammar": 'root ::= a root "x" | "y"\na ::= b\nb ::= ""'},
    ),
    "a grammar of nested parentheses": (
        "/v1/completions",
        PROMPT | {"grammar": "root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000},
    ),
    "a grammar of a long chain": (
        "/v1/completions",
        PROMPT | {"grammar": f'root ::= r0\n{CHAIN}\nr100000 ::= "a"'},
    ),
    "a grammar that does not parse": ("/v1/completions", PROMPT | {"grammar": "root ::= ::= ("}),
    "a regular expression that is none": ("/v1/completions", PROMPT | {"regex": "(["}),
    "a repetition of repetitions": ("/v1/completions", PROMPT | {"regex": "((a{1,9999}){1,9999}){1,9999}"}),
    "a token that is none in a prompt": ("/v1/completions", PROMPT | {"prompt": [BEYOND]}),
    "a negative token in a prompt": ("/v1/completions", PROMPT | {"prompt": [-1]}),
    "a token that is none to be written": ("/detokenize", {"tokens": [BEYOND]}),
    "a token that is none in logit_bias": ("/v1/completions", PROMPT | {"logit_bias": {str(BEYOND): 1}}),
    "a token that is none among the allowed": ("/v1/completions", PROMPT | {"allowed_token_ids": [BEYOND]}),
    "a window of penalties beyond all memory": (
        "/v1/completions",
        PROMPT | {"repeat_last_n": BEYOND, "repeat_penalty": 1.1},
    ),
    "a prompt beyond the context": ("/v1/completions", PROMPT | {"prompt": "a " * 50_000}),
    "one letter fifty thousand times": ("/v1/completions", PROMPT | {"prompt": "a" * 50_000}),
    "one letter a million times": ("/tokenize", {"content": "a" * 1_000_000}),
    "one letter a million times in a prompt": ("/v1/completions", PROMPT | {"prompt": "a" * 1_000_000}),
    "one space a million times in a chat": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": " " * 1_000_000}], "max_tokens": 4},
    ),
    "one letter a million times as a prediction": (
        "/v1/chat/completions",
        {
            "messages": [{"role": "user", "content": "Hi"}],
            "prediction": {"type": "content", "content": "a" * 1_000_000},
            "max_tokens": 4,
        },
    ),
    "a grammar behind filters that leave one token": (
        "/v1/completions",
        PROMPT | {"grammar": 'root ::= "zq"', "top_k": 1, "temperature": 1, "min_keep": 1},
    ),
    "an end that a grammar does not allow": (
        "/v1/completions",
        PROMPT | {"grammar": 'root ::= "a" "b"', "logit_bias": {"2": 100}},
    ),
    "no token that a grammar allows": (
        "/v1/completions",
        PROMPT | {"grammar": 'root ::= "a" "b"', "allowed_token_ids": [2]},
    ),
    "a window of repetitions beyond all memory": (
        "/v1/completions",
        PROMPT | {"dry_penalty_last_n": BEYOND, "dry_multiplier": 1, "dry_allowed_length": BEYOND},
    ),
    "an empty prompt of tokens": ("/v1/completions", PROMPT | {"prompt": []}),
    "more choices than places": ("/v1/completions", PROMPT | {"n": BEYOND}),
    "a schema that is nested without end": (
        "/v1/completions",
        PROMPT | {"json_schema": {"$ref": "#"}},
    ),
}


ANSWERED: Final = {
    "a grammar with hidden left recursion",
    "a grammar behind filters that leave one token",
    "an end that a grammar does not allow",
    "a window of penalties beyond all memory",
    "a window of repetitions beyond all memory",
}


@pytest.mark.parametrize("name", KILLERS)
def test_nobody_dies_of_it(server: LiveServer, name: str) -> None:
    path, body = KILLERS[name]
    before = server.workers()
    assert before
    answer = server.http.post(path, json={"model": MODEL, **body})
    assert answer.status_code == (200 if name in ANSWERED else 400), answer.text[:500]
    if name not in ANSWERED:
        error = answer.json()["error"]
        assert error["type"] == "invalid_request_error"
        of_several = error["code"] == "context_length_exceeded" or "biases and bans" in error["message"]
        assert error["param"] or of_several, "the field is named, where it is one"
        assert len(answer.content) < 4000, "the bomb does not come back"
    assert server.answers()
    assert server.workers() == before
