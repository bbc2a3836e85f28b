"""What a look at sources and store has found."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from model_registry.adapter_finder import PlacedAdapter
from model_registry.sources.found_model import FoundModel, ModelSource
from model_registry.store.model_record import ModelRecord


class Look(msgspec.Struct, frozen=True):
    """All that sources and store had to tell at one time."""

    found: dict[str, tuple[FoundModel, ModelSource]]
    records: Mapping[str, ModelRecord]
    problems: tuple[str, ...]
    adapters: tuple[PlacedAdapter, ...] = ()

    def ids(self) -> set[str]:
        """Of models, and of models with an adapter: one that is for none as yet, with each that it may be for."""
        adapted = {
            f"{model}:{each.found.name}"
            for each in self.adapters
            for model in (self.found if each.model is None else (each.model,))
        }
        return {*self.found, *adapted}
