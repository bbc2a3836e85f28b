"""Prompts to token ids: the chat template, the vocabulary and the length check, all in the worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.backend import Tokens
from engine.chat_template import RenderedText
from engine.errors import ContextLengthExceeded, InvalidRequest, blaming
from engine.infill import InfillTokens
from engine.prompt import ChatPrompt, InfillPrompt, Prompt, TextPrompt, TokenPrompt

_OPENING_CHARACTERS = 64
"""Enough for the header of a message, whatever the template."""


@dataclass(frozen=True, slots=True)
class ReadPrompt:
    """One prompt, ready to be computed."""

    tokens: Tokens
    """Shape (n,), n >= 1."""
    opening: str = ""
    """What the template wrote last, where it made the prompt: the answer goes on from there."""
    prefix_start: int = 0
    """Where in ``tokens`` what the client sent begins: behind the first marker of an infill."""
    prefix_length: int | None = None
    """How many of them stand before the gap of an infill; None where there is no gap."""


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

    @property
    def infill_tokens(self) -> InfillTokens | None: ...


class Renderer(Protocol):
    """A chat template. The worker's is ``engine.template_process.TemplateProcess``."""

    def render(self, prompt: ChatPrompt) -> RenderedText: ...


class PromptReader:
    """Reads prompts for one model. Safe from any one thread; touches no context."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        template: Renderer | None,
        *,
        context: int,
        fault: str = "its file has none",
    ) -> None:
        """``fault`` is why there is no template, where there is none."""
        self._vocabulary = vocabulary
        self._template = template
        self._fault = fault
        self._context = context

    def read(
        self,
        prompt: Prompt,
        *,
        max_tokens: int | None,
        param: str | None = None,
        max_tokens_param: str = "max_tokens",
    ) -> ReadPrompt:
        """``prompt`` in this model's tokens. Raises InvalidRequest and ContextLengthExceeded.

        ``param`` and ``max_tokens_param`` are the request's fields for the prompt and for the length of the answer.
        """
        param = param or ("messages" if isinstance(prompt, ChatPrompt) else "prompt")
        with blaming(param):
            read = self._read(prompt)
            if read.tokens.size == 0:
                read = ReadPrompt(self._nothing())
        is_too_long = read.tokens.size >= self._context
        with blaming(param if is_too_long or max_tokens is None else max_tokens_param):
            self._check_length(read.tokens.size, max_tokens)
        return read

    def _read(self, prompt: Prompt) -> ReadPrompt:
        match prompt:
            case TokenPrompt(tokens=tokens):
                return ReadPrompt(self._check_ids(tokens))
            case TextPrompt(text=text):
                return ReadPrompt(self._vocabulary.tokenize(text, add_special=True, parse_special=True))
            case ChatPrompt():
                return self._read_chat(prompt)
            case InfillPrompt():
                return self._read_infill(prompt)

    def _read_infill(self, prompt: InfillPrompt) -> ReadPrompt:
        markers = self._vocabulary.infill_tokens
        if markers is None:
            raise InvalidRequest(
                "this model has no tokens for filling in the middle, so it cannot heed a suffix",
                param="suffix",
            )
        beginning = self._vocabulary.tokenize("", add_special=True, parse_special=False)
        if isinstance(prompt.prefix, TokenPrompt):
            prefix = self._check_ids(prompt.prefix.tokens)
        else:
            prefix = self._vocabulary.tokenize(prompt.prefix.text, add_special=False, parse_special=False)
        with blaming("suffix"):
            suffix = self._vocabulary.tokenize(prompt.suffix, add_special=False, parse_special=False)
        return ReadPrompt(
            markers.arrange(beginning, prefix, suffix),
            prefix_start=beginning.size + 1,
            prefix_length=prefix.size,
        )

    def _check_ids(self, tokens: tuple[int, ...]) -> Tokens:
        wrong = next((token for token in tokens if not 0 <= token < self._vocabulary.size), None)
        if wrong is not None:
            raise InvalidRequest(
                f"token id {wrong} is outside this model's vocabulary of {self._vocabulary.size}",
                param="prompt",
            )
        return np.array(tokens, dtype=np.int32)

    def render(self, prompt: ChatPrompt) -> str:
        """The text that a chat comes to. Raises InvalidRequest."""
        return "".join(text for text, _ in self._pieces(prompt))

    def _pieces(self, prompt: ChatPrompt) -> list[tuple[str, bool]]:
        if self._template is None:
            raise InvalidRequest(
                f"this model has no chat template ({self._fault}), so it serves /v1/completions only;"
                " the setting chat_template names one",
                param="messages",
            )
        return self._template.render(prompt).pieces

    def _read_chat(self, prompt: ChatPrompt) -> ReadPrompt:
        pieces = self._pieces(prompt)
        parts = [
            self._vocabulary.tokenize(text, add_special=index == 0, parse_special=not is_plain)
            for index, (text, is_plain) in enumerate(pieces)
        ]
        tokens = np.concatenate(parts)
        # Many templates write the beginning token themselves, and the vocabulary adds one too: keep one.
        beginning = self._vocabulary.beginning
        if tokens.size > 1 and tokens[0] == tokens[1] == beginning:
            tokens = tokens[1:]
        last, is_plain = pieces[-1]
        return ReadPrompt(tokens, "" if is_plain else last[-_OPENING_CHARACTERS:])

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
