"""llama.cpp's and vLLM's own sampling parameters, each with an effect that can be seen on the real server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.end_to_end.live_server import LiveServer

pytestmark = pytest.mark.model

VIOLET = 33871
REPEATING = {"prompt": "violet violet violet violet violet", "max_tokens": 12}
DRAWN = {"prompt": "Once", "max_tokens": 12, "temperature": 1.0, "seed": 5}
WILD = {**DRAWN, "temperature": 2.0}


def text(server: LiveServer, *bodies: dict[str, Any]) -> str:
    body = {name: value for fields in bodies for name, value in fields.items()}
    answer = server.post("/v1/completions", body).json()
    assert "error" not in answer, answer
    found: str = answer["choices"][0]["text"]
    return found


@pytest.mark.parametrize(
    ("base", "field"),
    [
        (WILD, {"typical_p": 0.05}),
        (WILD, {"top_n_sigma": 0.5}),
        (DRAWN, {"xtc_probability": 1.0, "xtc_threshold": 0.02}),
        (DRAWN, {"dynatemp_range": 1.0}),
        ({**DRAWN, "dynatemp_range": 1.0}, {"dynatemp_exponent": 4.0}),
        ({**WILD, "top_p": 0.01}, {"min_keep": 40}),
        (WILD, {"mirostat": 1}),
        (WILD, {"mirostat": 2}),
        ({**WILD, "mirostat": 2}, {"mirostat_tau": 1.0}),
        ({**WILD, "mirostat": 2}, {"mirostat_eta": 1.0}),
        (REPEATING, {"dry_multiplier": 5.0}),
    ],
    ids=lambda fields: "+".join(fields) if "prompt" not in fields else "",
)
def test_a_parameter_changes_what_the_same_seed_draws(
    server: LiveServer, base: dict[str, Any], field: dict[str, Any]
) -> None:
    without = text(server, base)
    assert text(server, base) == without, "the seed reproduces, so a change is the parameter's"
    assert text(server, base, field) != without


@pytest.mark.parametrize(
    ("active", "limit"),
    [
        ({"repeat_penalty": 2.0}, {"repeat_last_n": 0}),
        ({"dry_multiplier": 5.0}, {"dry_allowed_length": 100}),
        ({"dry_multiplier": 5.0}, {"dry_penalty_last_n": 0}),
        ({"dry_multiplier": 5.0}, {"dry_sequence_breakers": [" violet"]}),
    ],
    ids=lambda fields: "+".join(fields),
)
def test_a_limit_takes_the_effect_of_a_penalty_away(
    server: LiveServer, active: dict[str, Any], limit: dict[str, Any]
) -> None:
    plain = text(server, REPEATING)
    assert text(server, REPEATING, active) != plain
    assert text(server, REPEATING, active, limit) == plain


def test_a_base_of_one_lets_a_penalty_not_grow(server: LiveServer) -> None:
    """DRY takes multiplier * base ** (length beyond what is allowed) from a token that would repeat."""
    faint = {"dry_multiplier": 0.001}
    assert text(server, REPEATING, faint, {"dry_base": 1.0}) == text(server, REPEATING)
    assert text(server, REPEATING, faint, {"dry_base": 100.0}) != text(server, REPEATING)


def test_words_can_be_forbidden(server: LiveServer) -> None:
    assert "violet" in text(server, REPEATING)
    assert "violet" not in text(server, REPEATING, {"bad_words": ["violet"]})


def test_tokens_can_be_the_only_ones_allowed(server: LiveServer) -> None:
    body = {**DRAWN, "max_tokens": 3, "ignore_eos": True, "allowed_token_ids": [VIOLET]}
    assert text(server, body) == " violet violet violet"
