"""A model with an adapter, which has an id of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from engine.errors import ModelLoadFailed, NibbleError
from model_registry.adapter_detail import AdapterDetail
from model_registry.card import ModelCard
from model_registry.fingerprint import fingerprint_with
from model_registry.model import Model
from model_registry.model_adapter import ModelAdapter
from model_registry.sources.found_adapter import FoundAdapter


@dataclass(slots=True)
class AdaptedModel:
    """Owned by the registry, and with it by the event loop."""

    model: Model
    adapter: ModelAdapter
    found: FoundAdapter | None = None
    """None for one that the operator names at the start, which is loaded with its model."""
    failure: NibbleError | None = None
    """Why it cannot be served although its model can."""
    failed_at: float | None = None
    """When loading it failed, on the registry's clock; None if its file tells that it must."""
    deaths: int = 0
    """Workers that ended while they loaded it."""
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        self.fingerprint = fingerprint_with(self.model.fingerprint, self.path)

    @property
    def id(self) -> str:
        return self.adapter.id

    @property
    def name(self) -> str:
        return self.adapter.adapter.name

    @property
    def path(self) -> Path:
        return Path(self.adapter.adapter.path)

    @property
    def file_bytes(self) -> int:
        """0 for a file that cannot be looked at: loading says so."""
        try:
            return self.path.stat().st_size if self.found is None else self.found.file_bytes
        except OSError:
            return 0

    @property
    def is_damaged(self) -> bool:
        """Whether its file tells that it cannot be served."""
        return self.failure is not None and self.failed_at is None

    def is_that(self, other: AdaptedModel) -> bool:
        """Whether both are the same files."""
        return self.model is other.model and self.adapter == other.adapter

    def card(self) -> ModelCard:
        """That of the model, as it stands, under this id."""
        card = msgspec.structs.replace(
            self.model.card(),
            id=self.id,
            parent=self.adapter.model,
            adapter=self.name,
            fingerprint=self.fingerprint,
        )
        if self.failure is None:
            return card
        return msgspec.structs.replace(card, state="failed", failure=self.failure.message)

    def detail(self) -> AdapterDetail:
        return AdapterDetail(
            id=self.id,
            parent=self.adapter.model,
            adapter=self.name,
            path=self.adapter.adapter.path,
            file_bytes=self.found.file_bytes if self.found else None,
            failure=self.failure.message if self.failure else None,
        )


def failed_adapter(model: Model, adapter: ModelAdapter, found: FoundAdapter, why: str) -> AdaptedModel:
    """One whose file tells that it cannot be served."""
    return AdaptedModel(model, adapter, found, ModelLoadFailed(why))
