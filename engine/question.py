"""What can be asked of a loaded model without computing: its vocabulary and template, which only its worker holds."""

from __future__ import annotations

import msgspec

from engine.prompt import ChatPrompt


class Tokenize(msgspec.Struct, frozen=True, tag="tokenize"):
    text: str
    add_special: bool = False
    """Add what the model wants at the ends of a text."""
    parse_special: bool = True
    """Read special-token text as the special token."""
    param: str = "content"
    """The field of the client's request that holds the text."""


class Detokenize(msgspec.Struct, frozen=True, tag="detokenize"):
    tokens: tuple[int, ...]


class ApplyTemplate(msgspec.Struct, frozen=True, tag="apply_template"):
    prompt: ChatPrompt


class Describe(msgspec.Struct, frozen=True, tag="describe"):
    """What the file brings along."""


class Tokenized(msgspec.Struct, frozen=True, tag="tokenized"):
    tokens: tuple[int, ...]
    pieces: tuple[bytes, ...]
    """The bytes of each token; special tokens as they are written."""


class Text(msgspec.Struct, frozen=True, tag="text"):
    """Of tokens or of messages. What is no UTF-8 is replaced."""

    text: str


class Description(msgspec.Struct, frozen=True, tag="description"):
    chat_template: str | None
    beginning: str
    """Text of the token that begins a text; empty if there is none."""
    end: str


Question = Tokenize | Detokenize | ApplyTemplate | Describe
Answer = Tokenized | Text | Description
