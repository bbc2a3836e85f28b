"""The bodies. All may name a ``model``, which llama.cpp's server, with one model, has no need of."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from routes.openai.chat.message import Message
from routes.openai.chat.template_fields import TemplateFields
from routes.openai.chat.tools import Tools
from routes.openai.sampling_fields import TokenId
from routes.wire_body import ChoosingBody

MAX_TOKENS = 1_000_000


class TokenizeBody(ChoosingBody):
    content: str
    add_special: bool | None = None
    """Add what the model wants at the ends of a text; not without being asked."""
    parse_special: bool | None = None
    """Read special-token text as the special token; so it is unless this is false."""
    with_pieces: bool | None = None
    """Tell the text of each token too."""


class DetokenizeBody(ChoosingBody):
    tokens: Annotated[list[TokenId], Field(max_length=MAX_TOKENS, fail_fast=True)]


class ApplyTemplateBody(ChoosingBody, TemplateFields):
    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)]
    tools: Tools | None = None
