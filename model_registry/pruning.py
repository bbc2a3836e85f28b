"""Removing what nothing uses: shown first, and done on a word. For the command, and for the admin's routes."""

from __future__ import annotations

from collections.abc import Iterable

from engine.errors import ModelUnavailable
from model_registry.config import RegistryConfig
from model_registry.leftovers import Leftover, leftovers, remove
from model_registry.registration import models_directory
from model_registry.shelf import Shelf
from model_registry.sources.default_sources import default_sources
from model_registry.store.model_store import ModelStore
from model_registry.store.store_error import StoreError


class PrunedLeftover(Leftover, frozen=True, kw_only=True):
    """One thing that nothing used, and whether it is gone."""

    removed: bool
    """False for one that somebody uses again, and for one with a ``problem``."""
    problem: str = ""
    """Why it could not be removed."""


class Pruning:
    """Blocks. For any thread: it keeps nothing, and looks at everything anew."""

    def __init__(self, config: RegistryConfig) -> None:
        self._config = config

    def find(self) -> list[Leftover]:
        """What would go. Raises ModelUnavailable where the store cannot be read."""
        try:
            return leftovers(models_directory(self._config), self._config.data_dir, self._known())
        except StoreError as error:
            raise ModelUnavailable(str(error)) from error

    def remove(self, found: Iterable[Leftover]) -> list[PrunedLeftover]:
        """Remove each of ``found`` that still is nobody's. One that cannot go does not keep the others."""
        return [self._removed(each) for each in found]

    def _removed(self, leftover: Leftover) -> PrunedLeftover:
        is_gone, problem = False, ""
        try:
            is_gone = remove(leftover, self._config.data_dir)
        except OSError as error:
            problem = f"{error.filename} cannot be removed ({error.strerror})"
        except StoreError as error:
            problem = str(error)
        return PrunedLeftover(
            kind=leftover.kind,
            what=leftover.what,
            file_bytes=leftover.file_bytes,
            note=leftover.note,
            removed=is_gone,
            problem=problem,
        )

    def _known(self) -> set[str]:
        """Ids of all models there are, and of all with an adapter. A look and no full shelf, which wants one at
        least."""
        config = self._config
        look = Shelf(default_sources(config), ModelStore.in_directory(config.data_dir), config).look()
        assert look is not None, "the first look tells everything"
        return look.ids() | {each.id for each in config.adapters}
