"""What the sampling parameters of a request mean in the tokens of one model: ids checked, texts tokenised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engine.errors import InvalidRequest
from engine.prompt_reader import Vocabulary
from engine.sampling.breakers import NO_BREAKERS, BreakerIndex, Breakers
from engine.sampling.dry import Dry
from engine.sampling.params import SamplingParams

BAN = -100.0
"""OpenAI documents a bias of -100 as a ban, and a ban must hold against any logit."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The parts of ``SamplingParams`` that only a vocabulary can tell."""

    bad_sequences: frozenset[tuple[int, ...]] = frozenset()
    """Token sequences, of one token or more, that must not be generated."""
    breakers: Breakers = NO_BREAKERS


class TermReader:
    """Reads them for one model. Owned by the worker's receiving thread."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._breakers = BreakerIndex(vocabulary.size, vocabulary.piece, self._tokens)

    def read(self, params: SamplingParams) -> Terms:
        """Raises InvalidRequest, with the field at fault, for ids outside the vocabulary and for nothing left."""
        self._check_ids(params.logit_bias, "logit_bias")
        self._check_ids(params.allowed_token_ids, "allowed_token_ids")
        sequences: set[tuple[int, ...]] = set()
        for word in params.bad_words:
            if isinstance(word, str):
                sequences |= self._spellings(word)
            else:
                self._check_ids(word, "bad_words")
                sequences.add(word)
        self._check_allowed(params, sequences)
        breakers = self._breakers.find(params.dry_sequence_breakers) if Dry.is_needed(params) else NO_BREAKERS
        return Terms(frozenset(sequences), breakers)

    def _spellings(self, word: str) -> set[tuple[int, ...]]:
        """At the beginning of a text and behind a space, a word is not the same tokens."""
        spellings = {tuple(self._tokens(text)) for text in (word, f" {word.lstrip()}")}
        return {spelling for spelling in spellings if spelling}

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self._vocabulary.tokenize(text, add_special=False, parse_special=False).tolist()
        return tokens

    def _check_ids(self, ids: Iterable[int], param: str) -> None:
        size = self._vocabulary.size
        wrong = next((token for token in ids if not 0 <= token < size), None)
        if wrong is not None:
            raise InvalidRequest(
                f"token id {wrong} is outside this model's vocabulary of {size}", param=param
            )

    @staticmethod
    def _check_allowed(params: SamplingParams, bad_sequences: set[tuple[int, ...]]) -> None:
        banned = {token for token, bias in params.logit_bias.items() if bias <= BAN}
        banned |= {sequence[0] for sequence in bad_sequences if len(sequence) == 1}
        if params.allowed_token_ids and banned.issuperset(params.allowed_token_ids):
            raise InvalidRequest(
                "each of the allowed tokens is banned by 'logit_bias' or 'bad_words'",
                param="allowed_token_ids",
            )
