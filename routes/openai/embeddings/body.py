"""The body of an embedding request: every field of the specification."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag

from routes.openai.sampling_fields import TokenId
from routes.openai.text_or_tokens import shape
from routes.wire_body import ModelBody

MAX_INPUTS = 2048
MAX_DIMENSIONS = 65_536
InputText = Annotated[str, StringConstraints(min_length=1)]
InputTokens = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]

Input = Annotated[
    Annotated[InputText, Tag("text")]
    | Annotated[list[InputText], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True), Tag("texts")]
    | Annotated[InputTokens, Tag("tokens")]
    | Annotated[
        list[InputTokens], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True), Tag("token_lists")
    ],
    Discriminator(shape),
]


class EmbeddingBody(ModelBody):
    input: Input
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=MAX_DIMENSIONS)] | None = None
    user: str | None = None
    """Only labels the request."""
