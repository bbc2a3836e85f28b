"""The base of every request body, whatever the dialect."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from engine.adapter_catalog import MOST_SCALE

MAX_FIELDS = 128
"""Fields of one object, known or not: more is no request, and would cost an error object each."""


MAX_ADAPTERS = 16
"""Adapters of one request."""


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


class ModelBody(WireObject):
    """A request that names the model which is to answer it."""

    model: Annotated[str, Field(min_length=1, max_length=512)]


class ChoosingBody(WireObject):
    """A request that need not name a model where there is only one to mean, as those of llama.cpp's server."""

    model: Annotated[str, Field(min_length=1, max_length=512)] | None = None


class LoraUse(WireObject):
    """One adapter of a request, as llama.cpp's server takes it."""

    id: Annotated[str, Field(min_length=1, max_length=512)] | Annotated[int, Field(ge=0, le=2**31 - 1)]
    """Its name, or its place among those of the model."""
    scale: Annotated[float, Field(ge=-MOST_SCALE, le=MOST_SCALE)] | None = None


class WireBody(ModelBody):
    """A request for text: what the code that answers it must know in every dialect."""

    stream: bool | None = None
    lora: Annotated[list[LoraUse], Field(max_length=MAX_ADAPTERS, fail_fast=True)] | None = None
    """Not OpenAI's, but llama.cpp's: adapters to answer with, beside that of the model's id."""
    timings: bool | None = None
    """Not OpenAI's: whether each choice tells where its time went, and its tokens came from."""
