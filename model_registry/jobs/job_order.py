"""What can be asked for as a job."""

from __future__ import annotations

from typing import Literal

import msgspec

from model_registry.caches.cached_model import CacheName

JobKindName = Literal["pull", "import", "verify", "quantize", "tune"]
JobUnit = Literal["bytes", "tokens"]


class PullOrder(msgspec.Struct, frozen=True):
    """Fetch a model into the models directory, and try it out."""

    source: str
    """In one of ``model_registry.pull.origin.FORMS``."""
    force: bool = False
    """Whether it is fetched even if it can never be loaded here."""


class ImportOrder(msgspec.Struct, frozen=True):
    """Link a file of this machine into the models directory, and try it out."""

    path: str
    base: str | None = None
    """Of a LoRA adapter: the model that it is for, where its file does not tell."""


class CachedImportOrder(msgspec.Struct, frozen=True):
    """Link a model that another program has fetched to this machine, and try it out."""

    cache: CacheName
    name: str
    """What that program calls it, or a part of that which no other has."""


class VerifyOrder(msgspec.Struct, frozen=True):
    """Read a model's files whole, compare them with what they were, and try it out."""

    model: str
    """Of one with an adapter, it is the adapter that is read."""


class QuantizeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Make a new model of another, in a smaller type."""

    model: str
    to: str
    name: str | None = None
    """Of the new one; None is that of the other with the type behind it."""
    allow_requantize: bool = False
    """Whether a file that is quantised already will do, which costs more of what it knows."""
    imatrix: str | None = None
    """The path of an importance matrix."""


class TuneOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Measure a model and twins of it in other types; or let it serve without a twin again."""

    model: str
    text: str | None = None
    """What perplexities are measured on; None is the text that comes with nibble."""
    types: tuple[str, ...] = ()
    """None is those that are sensible for the file, or that of ``apply`` alone."""
    apply: str | None = None
    """The type whose twin is kept, and serves in the model's place."""
    revert: bool = False
    """Whether the model is to serve its requests itself again; then nothing is measured."""


JobOrder = PullOrder | ImportOrder | CachedImportOrder | VerifyOrder | QuantizeOrder | TuneOrder
