"""Vocabularies for constraints without a model, and a sampler that draws whatever a mask leaves."""

from __future__ import annotations

import random

import numpy as np

from engine.backend import Logits, Tokens
from engine.constraint.constraint import Constraint
from tests.fakes.vocabulary import CONTROLS, ByteVocabulary

END, END_OF_TURN = CONTROLS["</s>"], CONTROLS["<|im_end|>"]
_NAMES = {token: text for text, token in CONTROLS.items()}
_WORDS = (
    *(
        '{"',
        '"}',
        '":',
        '": ',
        ' "',
        '", "',
        '"]',
        "}}",
        "[]",
        "{}",
        ", ",
        "true",
        "false",
        "null",
        "e+",
        "\\n",
    ),
    *(
        "al",
        "alpha",
        "value",
        "key",
        "ab",
        "abc",
        "é",
        "日本",
        "😀",
        "00",
        "12",
        "123",
        "-1",
        "0.",
        "  ",
        "\n\n",
    ),
)
_HURRY_AFTER = 60
_CLOSERS = (b"}", b"]", b'"')


class SpecialByteVocabulary(ByteVocabulary):
    """One token a byte, and control tokens with names. Implements ``engine.constraint.token_bytes.Vocabulary``."""

    def special_text(self, token: int) -> str:
        return _NAMES.get(token, "")


class WordVocabulary(SpecialByteVocabulary):
    """Bytes, control tokens, and words that cross the borders of JSON's grammar, as a trained vocabulary's do."""

    def __init__(self) -> None:
        super().__init__()
        self._words = [word.encode() for word in _WORDS]
        self.size = ByteVocabulary.size + len(self._words)

    def piece(self, token: int) -> bytes:
        if token >= ByteVocabulary.size:
            return self._words[token - ByteVocabulary.size]
        return super().piece(token)

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> Tokens:
        """The longest match at every place."""
        raw, ids = text.encode(), []
        while raw:
            fitting = [
                (len(word), ByteVocabulary.size + at)
                for at, word in enumerate(self._words)
                if raw.startswith(word)
            ]
            length, token = max(fitting, default=(1, raw[0]))
            ids.append(token)
            raw = raw[length:]
        return np.array(ids, dtype=np.int32)


def logits_for(vocabulary: ByteVocabulary) -> Logits:
    return np.zeros(vocabulary.size, dtype=np.float32)


def allowed(constraint: Constraint, vocabulary: ByteVocabulary) -> list[int]:
    """The ids that the mask leaves."""
    logits = logits_for(vocabulary)
    constraint.apply(logits)
    return [int(token) for token in np.flatnonzero(logits == 0.0)]


def agreeable(constraint: Constraint, vocabulary: ByteVocabulary) -> list[int]:
    """The ids that are allowed, each asked for by itself."""
    return [token for token in range(vocabulary.size) if constraint.allows(token)]


def feed(constraint: Constraint, text: str) -> None:
    """Accept ``text``, byte by byte."""
    constraint.accept(list(text.encode()))


def accepts(constraint: Constraint, text: str) -> bool:
    """Whether ``text`` is a whole answer."""
    trial = constraint.clone()
    raw = list(text.encode())
    if trial.count_allowed(raw) < len(raw):
        return False
    trial.accept(raw)
    return trial.may_end


def walk(
    constraint: Constraint, vocabulary: ByteVocabulary, rng: random.Random, *, most: int = 3000
) -> str | None:
    """An answer drawn evenly from the masks, forced tokens appended; None if it was cut at ``most`` tokens.

    After a while closing tokens are preferred, or else most answers would never end.
    """
    ends = set(vocabulary.end_tokens.tolist())
    written: list[int] = []
    while len(written) < most:
        if forced := constraint.forced():
            constraint.accept(forced)
            written += forced
        if constraint.is_complete:
            return _text(vocabulary, written)
        asked = agreeable(constraint, vocabulary) if constraint.can_be_asked else None
        constraint.start_mask()
        tokens = allowed(constraint, vocabulary)
        assert tokens
        assert asked in (None, tokens), "what is allowed when asked for is what the mask leaves"
        assert ends.isdisjoint(tokens) != constraint.may_end, (
            "end tokens are allowed where the answer may end"
        )
        token = _draw(tokens, ends, vocabulary, rng, is_hurried=len(written) > _HURRY_AFTER)
        constraint.accept([token])
        if token in ends:
            return _text(vocabulary, written)
        written.append(token)
    return None


def _draw(
    tokens: list[int], ends: set[int], vocabulary: ByteVocabulary, rng: random.Random, *, is_hurried: bool
) -> int:
    if is_hurried:
        closing = [t for t in tokens if t in ends or vocabulary.piece(t) in _CLOSERS]
        if closing and rng.random() < 0.9:
            return rng.choice(closing)
    return rng.choice(tokens)


def _text(vocabulary: ByteVocabulary, tokens: list[int]) -> str:
    return b"".join(map(vocabulary.piece, tokens)).decode()
