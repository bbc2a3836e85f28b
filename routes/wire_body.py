"""The base of every request body, whatever the dialect."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

MAX_FIELDS = 128
"""Fields of one object, known or not: more is no request, and would cost an error object each."""


class WireObject(BaseModel):
    """An object of a request: no coercion, no unknown fields, no NaN."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        frozen=True,
        protected_namespaces=(),
        # A validation error would otherwise hold, and print, what the user wrote.
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _bound(cls, value: object) -> object:
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise PydanticCustomError("too_many", "has more than {most} fields", {"most": MAX_FIELDS})
        return value


class WireBody(WireObject):
    """A request for text: what the code that answers it must know in every dialect."""

    model: Annotated[str, Field(min_length=1, max_length=512)]
    stream: bool | None = None
    timings: bool | None = None
    """Not OpenAI's: whether each choice tells where its time went, and its tokens came from."""
