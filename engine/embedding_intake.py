"""Embedding requests to jobs: tokenised, and refused where an input cannot be. No context is touched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from engine.backend import Tokens
from engine.embedding import EmbeddingInput, EmbeddingRequest, PairPrompt
from engine.embedding_core import EmbeddingJob
from engine.errors import ContextLengthExceeded, InternalError, InvalidRequest, UnsupportedField, blaming
from engine.prompt import TextPrompt, TokenPrompt

_HOLE = re.compile(r"(\{query\}|\{document\})")


class EmbeddingVocabulary(Protocol):
    """The part of a vocabulary that inputs are read with."""

    size: int

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> Tokens: ...

    @property
    def beginning(self) -> int | None: ...

    @property
    def pair_separator(self) -> int | None:
        """What stands between the two texts of a pair beside what ends each, if the model wants it."""
        ...

    @property
    def control_texts(self) -> tuple[str, ...]: ...


class EmbeddingIntake:
    """Reads requests for one model. Used by the worker's receiving thread alone."""

    def __init__(
        self,
        vocabulary: EmbeddingVocabulary,
        *,
        input_tokens: int,
        width: int,
        is_scoring: bool,
        is_cuttable: bool,
        pair_template: str | None = None,
    ) -> None:
        """``input_tokens`` is the most one input may have; ``pair_template`` is the file's own, with two holes."""
        self._vocabulary = vocabulary
        self._input_tokens = input_tokens
        self._width = width
        self._is_scoring = is_scoring
        self._is_cuttable = is_cuttable
        self._pair_template = pair_template
        controls = vocabulary.control_texts
        self._control = re.compile("|".join(map(re.escape, controls))) if controls else None

    def read(self, number: int, request: EmbeddingRequest) -> EmbeddingJob:
        """Raises InvalidRequest, UnsupportedField and ContextLengthExceeded, naming the item that is at fault."""
        dimensions = self._dimensions(request.dimensions)
        inputs: list[Tokens] = []
        for index, item in enumerate(request.inputs):
            param = f"{request.param}[{index}]" if request.is_list else request.param
            with blaming(param):
                tokens = self._tokens(item, param)
            self._check_length(tokens.size, param)
            inputs.append(tokens)
        return EmbeddingJob(number, inputs, dimensions)

    def _dimensions(self, wanted: int | None) -> int:
        if wanted is None or wanted == self._width:
            return self._width
        if not self._is_cuttable:
            raise UnsupportedField(
                f"'dimensions': this model's vectors have {self._width} numbers, and nothing says that it was "
                "trained to have them cut; if it was (Matryoshka), name it in the setting `matryoshka`.",
                param="dimensions",
            )
        if wanted > self._width:
            raise InvalidRequest(
                f"'dimensions': this model's vectors have {self._width} numbers.", param="dimensions"
            )
        return wanted

    def _tokens(self, item: EmbeddingInput, param: str) -> Tokens:
        if isinstance(item, PairPrompt) is not self._is_scoring:
            raise InternalError("a pair goes to a reranker, and everything else to none")
        match item:
            case TextPrompt(text=text):
                return self._vocabulary.tokenize(text, add_special=True, parse_special=False)
            case TokenPrompt(tokens=tokens):
                return self._check_ids(tokens, param)
            case PairPrompt():
                return self._pair(item)

    def _check_ids(self, tokens: tuple[int, ...], param: str) -> Tokens:
        size = self._vocabulary.size
        if (wrong := next((token for token in tokens if not 0 <= token < size), None)) is not None:
            raise InvalidRequest(
                f"'{param}': token id {wrong} is outside this model's vocabulary of {size}.", param=param
            )
        return np.array(tokens, dtype=np.int32)

    def _pair(self, pair: PairPrompt) -> Tokens:
        if self._pair_template is not None:
            parts = [
                self._vocabulary.tokenize(text, add_special=False, parse_special=not is_plain)
                for text, is_plain in self._pieces(self._pair_template, pair)
            ]
            return np.concatenate(parts)
        # What the model wants around a text tells what it wants around each of two: BERT's [CLS] a [SEP] b [SEP],
        # RoBERTa's <s> a </s></s> b </s>.
        around = self._vocabulary.tokenize("", add_special=True, parse_special=False)
        begins = int(around.size > 0 and around[0] == self._vocabulary.beginning)
        head, tail = around[:begins], around[begins:]
        separator = self._vocabulary.pair_separator
        between = np.array([] if separator is None else [separator], dtype=np.int32)
        query, text = (
            self._vocabulary.tokenize(each, add_special=False, parse_special=False)
            for each in (pair.query, pair.text)
        )
        return np.concatenate([head, query, tail, between, text, tail])

    def _pieces(self, template: str, pair: PairPrompt) -> Iterator[tuple[str, bool]]:
        """The filled template as (text, is_plain): cut only where a text of the user's looks like a control token.

        Elsewhere it stays in one piece, since a vocabulary joins what a cut would part.
        """
        whole = ""
        for part in _HOLE.split(template):
            if not _HOLE.fullmatch(part):
                whole += part
                continue
            text = pair.query if part == "{query}" else pair.text
            at = 0
            for hit in self._control.finditer(text) if self._control else ():
                yield whole + text[at : hit.start()], False
                yield hit[0], True
                whole, at = "", hit.end()
            whole += text[at:]
        yield whole, False

    def _check_length(self, tokens: int, param: str) -> None:
        if tokens == 0:
            raise InvalidRequest(f"'{param}': is empty to this model.", param=param)
        if tokens > self._input_tokens:
            raise ContextLengthExceeded(
                f"'{param}': {tokens} tokens, and this model takes {self._input_tokens} per input. Split it.",
                param=param,
            )
