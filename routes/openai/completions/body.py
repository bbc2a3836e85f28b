"""The body of a completion request: every field of the specification, honoured or refused."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from routes.openai.constraint_fields import ConstraintFields
from routes.openai.sampling_fields import MAX_INT32, TokenId
from routes.openai.text_or_tokens import shape

TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]


Prompt = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[list[str], Field(min_length=1, fail_fast=True), Tag("texts")]
    | Annotated[TokenIds, Tag("tokens")]
    | Annotated[list[TokenIds], Field(min_length=1, fail_fast=True), Tag("token_lists")],
    Discriminator(shape),
]


class CompletionBody(ConstraintFields):
    prompt: Prompt | None
    best_of: Annotated[int, Field(ge=1, le=20)] | None = None
    """Generate so many answers, and send the ``n`` that are likeliest per token."""

    max_tokens: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    """0, beside ``echo`` alone, asks for the prompt and no answer: for its log-probabilities, most of all."""
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    suffix: str | None = None
    """What comes behind the answer, for models that can fill in the middle; empty is none."""
