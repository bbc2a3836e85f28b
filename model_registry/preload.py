"""What is loaded at start: what the operator names, or the first model that can be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from model_registry.config import RegistryConfig
from model_registry.model import Model
from model_registry.shelf import Shelf


class Preload:
    """Owned by the registry, and with it by the event loop."""

    def __init__(self, config: RegistryConfig, shelf: Shelf, begin_load: Callable[[Model], None]) -> None:
        """``begin_load`` begins to load a model, if anything is still to be loaded at all."""
        self._named = config.preload
        self._shelf = shelf
        self._begin_load = begin_load
        self._search: asyncio.Task[None] | None = None
        self.ids: tuple[str, ...] = ()
        """What ``begin`` begins to load."""

    def choose(self) -> None:
        """Raises ModelNotFound for a name that is none."""
        if self._named:
            # By ids, since two names may mean one model.
            self.ids = tuple(dict.fromkeys(self._shelf.find(name).id for name in self._named))
        else:
            # The sources come in order of preference: the user's own files before the bundled one.
            usable = [model.id for model in self._shelf.serving() if model.found.failure is None]
            self.ids = tuple(usable[:1])

    def begin(self) -> None:
        for model_id in self.ids:
            self._begin_first(self._shelf.find(model_id))
        if not self._named:
            self._search = asyncio.create_task(self._try_until_one_serves(), name="preload")

    def cancel(self) -> None:
        if self._search is not None:
            self._search.cancel()

    async def begun(self) -> None:
        """Return when no further load will begin."""
        if self._search is not None:
            await asyncio.wait({self._search})

    def _begin_first(self, model: Model) -> None:
        if model.state == "registered":
            self._begin_load(model)

    async def _try_until_one_serves(self) -> None:
        """Nobody has said what to load, so a first model that fails is no reason to stand there with none."""
        for model in self._shelf.serving():
            self._begin_first(model)
            if model.load is not None:
                await asyncio.wait({model.load})
            if model.state == "ready":
                return
