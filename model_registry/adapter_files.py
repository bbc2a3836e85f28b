"""A model with an adapter as it lies on the disk: what can be checked of it without loading anything."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.errors import ModelLoadFailed
from model_registry.adapted_model import AdaptedModel
from model_registry.adapter_base import AdapterBases, Base
from model_registry.sources.found_adapter import find_adapter


class AdapterFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What it was when it was asked for; for any thread."""

    id: str
    name: str
    path: Path
    file_bytes: int
    base: Base

    @classmethod
    def of(cls, adapted: AdaptedModel) -> AdapterFiles:
        """With the model that serves it, which may be a twin."""
        base = Base(adapted.model.id, adapted.model.files())
        return cls(
            id=adapted.id, name=adapted.name, path=adapted.path, file_bytes=adapted.file_bytes, base=base
        )

    def check_header(self) -> None:
        """As at its registration: that it is a LoRA, and its model's. Blocking. Raises ModelLoadFailed."""
        try:
            found = find_adapter(self.path, self.name)
        except OSError as error:
            raise ModelLoadFailed(f"{self.path} cannot be read ({error.strerror}): check the file") from error
        if fault := AdapterBases().fault(found, self.base):
            raise ModelLoadFailed(fault)
