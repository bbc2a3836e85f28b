"""A vocabulary as llguidance wants it: the bytes of every token, and which of them are no text."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol

import msgspec
from llguidance import LLTokenizer

from engine.backend import Tokens
from engine.errors import InvalidRequest

# llama.cpp's pre-tokenisers recurse per character, and these texts are tokenised on threads with a usual stack.
_PART_CHARACTERS = 512
_REMEMBERED_TEXTS = 4096
_SENTINEL = "\n"


class Vocabulary(Protocol):
    """What a constraint needs of a vocabulary. The real one is ``engine.native.vocabulary.NativeVocabulary``."""

    size: int

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> Tokens: ...

    def piece(self, token: int) -> bytes: ...

    def special_text(self, token: int) -> str: ...

    @property
    def end(self) -> int | None: ...

    @property
    def end_tokens(self) -> Tokens: ...


class TokenBytes(msgspec.Struct, frozen=True):
    """The bytes of each token, by id. Special ones are no text: a grammar names them, or it cannot reach them."""

    pieces: list[bytes]
    """Of a special token, its name."""
    special: list[int]
    ends: list[int]
    """Tokens that end generation, the usual one first; never empty."""

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> TokenBytes:
        """Read all of ``vocabulary``: 2 microseconds a token."""
        pieces = [vocabulary.piece(token) for token in range(vocabulary.size)]
        ends: list[int] = vocabulary.end_tokens.tolist()
        # Some vocabularies mark an end token as ordinary text, which a grammar must not be able to write.
        special = sorted({token for token, piece in enumerate(pieces) if not piece}.union(ends))
        for token in special:
            pieces[token] = (vocabulary.special_text(token) or f"<|{token}|>").encode()
        if vocabulary.end in ends:
            ends.sort(key=lambda token: token != vocabulary.end)
        if not ends:
            # llguidance needs one: an id behind the vocabulary, which no model can choose.
            ends = [len(pieces)]
            special.append(len(pieces))
            pieces.append(b"<|end|>")
        return cls(pieces, special, ends)


class _Wrapper:
    """The attributes that ``LLTokenizer`` reads of a tokenizer object."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokens: TokenBytes, tokenize: Callable[[str], list[int]]) -> None:
        self.eos_token_id = tokens.ends[0]
        self.tokens = tokens.pieces
        self.special_token_ids = tokens.special
        self._tokenize = tokenize

    def __call__(self, text: str | bytes) -> list[int]:
        return self._tokenize(text if isinstance(text, str) else text.decode("utf-8", "replace"))


def build_tokenizer(tokens: TokenBytes, tokenize: Callable[[str], list[int]] | None = None) -> LLTokenizer:
    """llguidance's trie of the vocabulary (0.1 s for 49 thousand tokens). Without ``tokenize``, longest match."""
    built: list[LLTokenizer] = []
    wrapper = _Wrapper(tokens, tokenize or (lambda text: built[0].greedy_tokenize(text) if built else []))
    built.append(LLTokenizer(wrapper, n_vocab=len(tokens.pieces), eos_token=tokens.ends))  # type: ignore[arg-type]
    return built[0]


class Retokenizer:
    """The model's own tokens for text in the middle of an answer: what it would most likely have written itself."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._fallback: Callable[[str], list[int]] | None = None
        self._tokens_of_part = functools.lru_cache(_REMEMBERED_TEXTS)(self._tokenize_part)

    def fall_back_on(self, greedy: Callable[[str], list[int]]) -> None:
        """Tokenise with ``greedy`` what the vocabulary's own tokeniser would not give back byte for byte."""
        self._fallback = greedy
        self._tokens_of_part.cache_clear()

    def __call__(self, text: str) -> list[int]:
        tokens: list[int] = []
        for at in range(0, len(text), _PART_CHARACTERS):
            tokens += self._tokens_of_part(text[at : at + _PART_CHARACTERS])
        return tokens

    def _tokenize_part(self, text: str) -> tuple[int, ...]:
        wanted = text.encode()
        tokens = self._plain(text)
        if self._bytes_of(tokens) == wanted:
            return tuple(tokens)
        # SentencePiece puts a blank before every text; behind a sentinel, the rest is as in the middle of one.
        tokens = self._plain(_SENTINEL + text)
        while tokens and len(self._bytes_of(tokens)) > len(wanted):
            del tokens[0]
        if self._bytes_of(tokens) == wanted:
            return tuple(tokens)
        return tuple(self._fallback(text)) if self._fallback else ()

    def _plain(self, text: str) -> list[int]:
        try:
            tokens: list[int] = self._vocabulary.tokenize(
                text, add_special=False, parse_special=False
            ).tolist()
        except InvalidRequest:
            return []
        return tokens

    def _bytes_of(self, tokens: list[int]) -> bytes:
        return b"".join(map(self._vocabulary.piece, tokens))
