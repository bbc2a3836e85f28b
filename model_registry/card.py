"""What the registry tells about one model."""

from __future__ import annotations

import msgspec

from engine.config import ModelFacts
from model_registry.sampling_defaults import SamplingDefaults
from model_registry.state import ModelState


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of one model; a newer one may already exist when it is read."""

    id: str
    created: int
    """Unix seconds of the file's last change: stable, as ``/v1/models`` requires."""
    owned_by: str
    path: str
    file_bytes: int
    state: ModelState
    failure: str | None = None
    """Why it is ``failed``, and what mends it."""
    facts: ModelFacts | None = None
    """Known once the model has been loaded."""
    fingerprint: str
    """``fp_`` and 12 hex digits; the same for one file and one build of the engine."""
    parent: str | None = None
    """The id of the model by itself, where this is one with an adapter."""
    adapter: str | None = None
    """The name of that adapter."""
    sampling: SamplingDefaults = SamplingDefaults()
    """What counts where a request leaves such a field out."""
