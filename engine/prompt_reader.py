"""Prompts to token ids: the chat template, the vocabulary and the length check, all in the worker."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from engine.backend import Tokens
from engine.chat_template import ChatTemplate
from engine.errors import ContextLengthExceeded, InvalidRequest
from engine.prompt import ChatPrompt, Prompt, TextPrompt, TokenPrompt


class Vocabulary(Protocol):
    """What the engine needs of a vocabulary. The real one is ``engine.native.vocabulary.NativeVocabulary``."""

    size: int

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> Tokens: ...

    def piece(self, token: int) -> bytes: ...

    def special_text(self, token: int) -> str: ...

    @property
    def beginning(self) -> int | None: ...

    @property
    def end(self) -> int | None: ...

    @property
    def end_tokens(self) -> Tokens: ...


class PromptReader:
    """Reads prompts for one model. Safe from any one thread; touches no context."""

    def __init__(self, vocabulary: Vocabulary, template: ChatTemplate | None, *, context: int) -> None:
        self._vocabulary = vocabulary
        self._template = template
        self._context = context

    def read(self, prompt: Prompt, *, max_tokens: int | None) -> Tokens:
        """Token ids of ``prompt``, shape (n,), n >= 1. Raises InvalidRequest and ContextLengthExceeded."""
        tokens = self._tokens_of(prompt)
        if tokens.size == 0:
            tokens = self._nothing()
        self._check_length(tokens.size, max_tokens)
        return tokens

    def _tokens_of(self, prompt: Prompt) -> Tokens:
        match prompt:
            case TokenPrompt(tokens=tokens):
                return self._check_ids(tokens)
            case TextPrompt(text=text):
                return self._vocabulary.tokenize(text, add_special=True, parse_special=True)
            case ChatPrompt():
                return self._chat_tokens(prompt)

    def _check_ids(self, tokens: tuple[int, ...]) -> Tokens:
        wrong = next((token for token in tokens if not 0 <= token < self._vocabulary.size), None)
        if wrong is not None:
            raise InvalidRequest(
                f"token id {wrong} is outside this model's vocabulary of {self._vocabulary.size}",
                param="prompt",
            )
        return np.array(tokens, dtype=np.int32)

    def _chat_tokens(self, prompt: ChatPrompt) -> Tokens:
        if self._template is None:
            raise InvalidRequest(
                "this model's file has no chat template, so it serves /v1/completions only", param="messages"
            )
        parts = [
            self._vocabulary.tokenize(text, add_special=index == 0, parse_special=not is_plain)
            for index, (text, is_plain) in enumerate(self._template.render(prompt.messages).pieces)
        ]
        tokens = np.concatenate(parts)
        # Many templates write the beginning token themselves, and the vocabulary adds one too: keep one.
        beginning = self._vocabulary.beginning
        if tokens.size > 1 and tokens[0] == tokens[1] == beginning:
            tokens = tokens[1:]
        return tokens

    def _nothing(self) -> Tokens:
        """An empty text still needs one token to continue from."""
        first = self._vocabulary.beginning if self._vocabulary.beginning is not None else self._vocabulary.end
        if first is None:
            raise InvalidRequest(
                "the prompt is empty, and this model has no token to begin with", param="prompt"
            )
        return np.array([first], dtype=np.int32)

    def _check_length(self, prompt_tokens: int, max_tokens: int | None) -> None:
        answer = 1 if max_tokens is None else max_tokens
        if prompt_tokens + answer <= self._context:
            return
        asked = f"{prompt_tokens} in the prompt"
        if max_tokens is not None:
            asked += f", {max_tokens} for the answer"
        raise ContextLengthExceeded(
            f"This model's context is {self._context} tokens, and the request asks for {prompt_tokens + answer} "
            f"({asked}). Shorten the prompt or the answer.",
        )
