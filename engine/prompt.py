"""What a model is asked to continue: a chat, a text, or tokens.

These types cross into the worker as they are, because only the worker touches what the model's file
brings: its chat template and its vocabulary.
"""

from __future__ import annotations

import msgspec


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of a chat, in the shape that chat templates read."""

    role: str
    content: str
    name: str | None = None


class ChatPrompt(msgspec.Struct, frozen=True, tag="chat"):
    """Messages for the model's own chat template. Special-token text inside them is plain text."""

    messages: tuple[ChatMessage, ...]


class TextPrompt(msgspec.Struct, frozen=True, tag="text"):
    """Raw text, as a person who knows the model would write it: special tokens in it are honoured."""

    text: str


class TokenPrompt(msgspec.Struct, frozen=True, tag="tokens"):
    """Token ids of the model's own vocabulary, taken as they are."""

    tokens: tuple[int, ...]


Prompt = ChatPrompt | TextPrompt | TokenPrompt
