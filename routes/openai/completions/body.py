"""The body of a completion request: every field of the specification, honoured or refused."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from routes.not_served import NotServed
from routes.openai.constraint_fields import ConstraintFields
from routes.openai.sampling_fields import TokenId

TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]


def _shape(value: object) -> str:
    """Which of the four shapes a prompt has; by its first item, so that one wrong item is named as such."""
    if not isinstance(value, list):
        return "text"
    match value[:1]:
        case [list()]:
            return "token_lists"
        case [int()]:
            return "tokens"
        case _:
            return "texts"


Prompt = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[list[str], Field(min_length=1, fail_fast=True), Tag("texts")]
    | Annotated[TokenIds, Tag("tokens")]
    | Annotated[list[TokenIds], Field(min_length=1, fail_fast=True), Tag("token_lists")],
    Discriminator(_shape),
]


class CompletionBody(ConstraintFields):
    prompt: Prompt | None
    best_of: Annotated[int, Field(ge=1, le=20)] | None = None
    """Honoured where it chooses nothing: when it equals ``n``."""

    echo: Annotated[object, NotServed("echo is not there yet", (False,))] = None
    logprobs: Annotated[object, NotServed("log-probabilities are not there yet")] = None
    suffix: Annotated[object, NotServed("filling in the middle is not there yet", ("",))] = None
