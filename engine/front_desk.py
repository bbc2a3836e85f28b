"""Questions about a loaded model, answered on the worker's receiving thread: no step waits for them."""

from __future__ import annotations

from typing import Protocol

from engine.backend import Tokens
from engine.errors import InvalidRequest, blaming
from engine.prompt import ChatPrompt
from engine.question import (
    Answer,
    ApplyTemplate,
    Describe,
    Description,
    Detokenize,
    Question,
    Text,
    Tokenize,
    Tokenized,
)


class SpelledVocabulary(Protocol):
    """A vocabulary whose special tokens can be written out."""

    size: int

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> Tokens: ...

    def spelled(self, token: int) -> bytes:
        """The bytes of ``token``, special ones as they are written."""
        ...

    def special_text(self, token: int) -> str: ...

    @property
    def beginning(self) -> int | None: ...

    @property
    def end(self) -> int | None: ...


class TemplateReader(Protocol):
    """What renders messages as a chat does: ``engine.prompt_reader.PromptReader``."""

    def render(self, prompt: ChatPrompt) -> str: ...


class FrontDesk:
    """Used by the worker's receiving thread alone."""

    def __init__(
        self, vocabulary: SpelledVocabulary, reader: TemplateReader | None, chat_template: str | None
    ) -> None:
        """``reader`` is None for a model that takes no chats."""
        self._vocabulary = vocabulary
        self._reader = reader
        self._chat_template = chat_template

    def answer(self, question: Question) -> Answer:
        """Raises InvalidRequest."""
        match question:
            case Tokenize():
                return self._tokenize(question)
            case Detokenize(tokens=tokens):
                return self._detokenize(tokens)
            case ApplyTemplate(prompt=prompt):
                if self._reader is None:
                    raise InvalidRequest("this model takes no chats: it has no template", param="messages")
                return Text(self._reader.render(prompt))
            case Describe():
                vocabulary = self._vocabulary
                beginning, end = (
                    "" if token is None else vocabulary.special_text(token)
                    for token in (vocabulary.beginning, vocabulary.end)
                )
                return Description(self._chat_template, beginning, end)

    def _tokenize(self, question: Tokenize) -> Tokenized:
        with blaming(question.param):
            tokens = self._vocabulary.tokenize(
                question.text, add_special=question.add_special, parse_special=question.parse_special
            ).tolist()
        return Tokenized(tuple(tokens), tuple(self._vocabulary.spelled(token) for token in tokens))

    def _detokenize(self, tokens: tuple[int, ...]) -> Text:
        size = self._vocabulary.size
        if (wrong := next((i for i, token in enumerate(tokens) if not 0 <= token < size), None)) is not None:
            param = f"tokens[{wrong}]"
            raise InvalidRequest(
                f"'{param}': token id {tokens[wrong]} is outside this model's vocabulary of {size}.",
                param=param,
            )
        return Text(b"".join(self._vocabulary.spelled(token) for token in tokens).decode("utf-8", "replace"))
