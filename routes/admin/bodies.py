"""What an admin sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from engine.template_choice import template_names
from model_registry.caches.cached_model import CacheName
from model_registry.model_settings import ModelSettings
from model_registry.setting_fault import setting_fault
from model_registry.store.model_store import ALIAS
from routes.openai.documentation import Schema, struct_schema
from routes.wire_body import ModelBody, WireObject

_Type = Annotated[str, Field(min_length=1, max_length=40)]
"""Of a quantisation, such as Q4_K_M."""


class LoadBody(ModelBody):
    """Which model to load."""


class UnloadBody(ModelBody):
    """Which model to unload, and what is to become of the requests that hold it."""

    wait_s: Annotated[float, Field(ge=0, le=3600)] | None = None
    """Seconds to wait until nobody uses it; null is 0."""
    force: bool | None = None
    """Whether to end the requests that hold it, with an error."""


class PullBody(WireObject):
    """What to fetch."""

    source: Annotated[str, Field(min_length=1, max_length=2048)]
    force: bool | None = None
    """Whether to fetch it even if it can never be loaded on the server's machine."""


class ImportBody(WireObject):
    """What to serve of the server's machine: a file, or with ``from`` a model that another program has fetched."""

    path: Annotated[str, Field(min_length=1, max_length=4096, pattern="^/")] | None = None
    from_: Annotated[CacheName | None, Field(alias="from")] = None
    """That program, of whose models ``name`` is one."""
    name: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """What that program calls it, or a part of that which no other has."""
    for_: Annotated[str | None, Field(alias="for", min_length=1, max_length=512)] = None
    """Of a LoRA adapter: the model that it is for, where its file does not tell."""


class VerifyBody(ModelBody):
    """Which model, or model with an adapter, to read whole."""


class QuantizeBody(ModelBody):
    """Which model to quantise, and to what."""

    to: _Type
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Of the new model; null is that of the old with the type behind it."""
    allow_requantize: bool | None = None
    """Whether a file that is quantised already will do."""
    imatrix: Annotated[str, Field(min_length=1, max_length=4096, pattern="^/")] | None = None
    """A file of the server's machine: an importance matrix, which llama.cpp's llama-imatrix has made of the model."""


class TuneBody(ModelBody):
    """Which model to measure beside its twins, or with ``revert``, to serve without one again."""

    text: Annotated[str, Field(min_length=1)] | None = None
    """What to measure perplexity on; null is the text that comes with nibble."""
    types: Annotated[list[_Type], Field(min_length=1, max_length=64)] | None = None
    """Types to try; null is those that are sensible for the file, or that of ``apply`` alone."""
    apply: _Type | None = None
    """A type whose twin is kept as a model, and serves in the model's place."""
    revert: bool | None = None
    """Whether the model is to serve its requests itself again. Alone: nothing is measured then."""


def _said(value: bool) -> bool:
    if not value:
        raise PydanticCustomError("unsaid", "should be true: only then is anything removed")
    return value


class PruneBody(WireObject):
    """The word on which things are removed."""

    # No Literal[True], which would take the number 1 for it.
    yes: Annotated[bool, AfterValidator(_said), WithJsonSchema({"type": "boolean", "const": True})]


def _settings_schema() -> Schema:
    """That of ``ModelSettings``, any of which may be null."""
    return struct_schema(ModelSettings).made()


def checked_settings(values: Mapping[str, object]) -> ModelSettings:
    """Raises ValueError, which names the setting and the fault."""
    try:
        settings = msgspec.convert(dict(values), ModelSettings)
    except msgspec.ValidationError as error:
        raise ValueError(setting_fault(error)) from None
    if settings.chat_template is not None and settings.chat_template not in template_names():
        # A path would have the server read any file, and show it.
        raise ValueError(
            f"chat_template: names one of {', '.join(template_names())}; a file is set in nibble.toml"
        )
    return settings


def _check(values: dict[str, Any]) -> dict[str, Any]:
    try:
        checked_settings(values)
    except ValueError as error:
        raise PydanticCustomError("setting", "{why}", {"why": str(error)[:300]}) from None
    return values


Alias = Annotated[str, Field(pattern=f"^{ALIAS.pattern}$", max_length=200)]
Tag = Annotated[str, Field(min_length=1, max_length=64)]


class AmendBody(WireObject):
    """What is to be said of a model from now on; null, or nothing, leaves what is said."""

    aliases: Annotated[list[Alias], Field(max_length=64)] | None = None
    """All other names that requests may use."""
    tags: Annotated[list[Tag], Field(max_length=64)] | None = None
    notes: Annotated[str, Field(max_length=10_000)] | None = None
    settings: Annotated[dict[str, Any], AfterValidator(_check), WithJsonSchema(_settings_schema())] | None = (
        None
    )
    """Settings to change, by name; null unsets one. They count from the next load."""
