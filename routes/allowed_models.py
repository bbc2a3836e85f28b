"""The models as one caller sees them: what its key does not name does not exist for it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from engine.errors import ModelNotFound
from model_registry.adapter_detail import AdapterDetail
from model_registry.amendment import Amendment
from model_registry.card import ModelCard
from model_registry.model_detail import ModelDetail
from model_registry.removal import SideEffect
from routes.caller import Caller
from routes.services import LeasePort, RegistryPort


def models_for(caller: Caller, registry: RegistryPort) -> RegistryPort:
    """``registry``, or the part of it that ``caller`` may use."""
    return registry if caller.models is None else AllowedModels(registry, caller.models)


class AllowedModels:
    """Implements ``RegistryPort``. Holds nothing between requests."""

    def __init__(self, registry: RegistryPort, allowed: frozenset[str]) -> None:
        self._registry = registry
        self._allowed = allowed

    @property
    def is_ready(self) -> bool:
        return self._registry.is_ready

    def cards(self) -> Sequence[ModelCard]:
        return [card for card in self._registry.cards() if card.id in self._allowed]

    def card(self, model_id: str) -> ModelCard:
        try:
            card = self._registry.card(model_id)
        except ModelNotFound:
            # The registry's own words name the nearest ids, which may be those of others.
            raise self._not_found(model_id) from None
        if card.id not in self._allowed:
            raise self._not_found(model_id)
        return card

    async def remove(self, model_id: str) -> tuple[SideEffect, ...]:
        effects = await self._registry.remove(self.card(model_id).id)
        return tuple(effect for effect in effects if effect.model in self._allowed)

    def details(self) -> Sequence[ModelDetail]:
        return [detail for detail in self._registry.details() if detail.id in self._allowed]

    def detail(self, model_id: str, *, serving: bool = False) -> ModelDetail:
        return self._registry.detail(self.card(model_id).id, serving=serving)

    def adapter(self, name: str) -> AdapterDetail | None:
        return self._registry.adapter(self.card(name).id)

    async def load(self, model_id: str) -> None:
        await self._registry.load(self.card(model_id).id)

    async def unload(self, model_id: str, *, wait_s: float = 0.0, force: bool = False) -> None:
        await self._registry.unload(self.card(model_id).id, wait_s=wait_s, force=force)

    async def amend(self, model_id: str, amendment: Amendment) -> None:
        self.card(model_id)
        await self._registry.amend(model_id, amendment)

    def lease(self, model_id: str, *, adapters: Sequence[str] = ()) -> AbstractAsyncContextManager[LeasePort]:
        return self._registry.lease(self.card(model_id).id, adapters=adapters)

    def _not_found(self, model_id: str) -> ModelNotFound:
        names = ", ".join(f"'{card.id}'" for card in self.cards()[:5]) or "none"
        return ModelNotFound(
            f"model '{model_id[:200]}' does not exist, or this API key may not use it; its models: {names}",
            param="model",
        )
