"""Which model a request means."""

from __future__ import annotations

from engine.errors import InvalidRequest
from model_registry.card import ModelCard
from routes.services import RegistryPort


def chosen_model(named: str | None, registry: RegistryPort) -> ModelCard:
    """The model of that name; without one the only model there is, or the only one loaded.

    Raises ModelNotFound, and InvalidRequest where a name is needed.
    """
    if named is not None:
        return registry.card(named)
    cards = [card for card in registry.cards() if card.adapter is None]
    for candidates in (cards, [card for card in cards if card.state == "ready"]):
        if len(candidates) == 1:
            return candidates[0]
    names = ", ".join(f"'{card.id}'" for card in cards[:5])
    raise InvalidRequest(f"'model': name one, since there are several: {names}.", param="model")
