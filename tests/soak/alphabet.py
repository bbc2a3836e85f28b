"""Streams that can be told apart: each may write two letters of its own, and nothing else."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from tests.soak.fleet import Fleet

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class Voice:
    """What one request may write: a letter is a token, so letters count tokens."""

    letters: frozenset[str]
    tokens: tuple[int, int]


class Alphabet:
    """Voices of one model, 1,891 of them before they repeat."""

    def __init__(self, fleet: Fleet, model: str) -> None:
        tokens: dict[str, int] = {}
        for letter in _LETTERS:
            body = {"model": model, "content": letter, "add_special": False}
            tokens[letter] = fleet.http.post("/tokenize", json=body).json()["tokens"][-1]
        assert len(set(tokens.values())) == len(_LETTERS), "a letter is a token"
        self._voices = [
            Voice(frozenset(pair), (tokens[pair[0]], tokens[pair[1]]))
            for pair in itertools.combinations(_LETTERS, 2)
        ]

    def voice(self, number: int) -> Voice:
        return self._voices[number % len(self._voices)]
