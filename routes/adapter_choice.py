"""Which adapters a request is answered with: that of its model's id, and those that its field ``lora`` names."""

from __future__ import annotations

from collections.abc import Sequence

from engine.adapter import AdapterUse
from engine.errors import InvalidRequest
from model_registry.card import ModelCard
from routes.services import RegistryPort
from routes.wire_body import LoraUse

_OWN_SCALE = 1.0


def chosen_adapters(
    named: Sequence[LoraUse] | None, card: ModelCard, registry: RegistryPort
) -> tuple[AdapterUse, ...]:
    """The adapters that count, with their scales; what has the scale 0 does not. Raises InvalidRequest.

    An adapter is named as itself or as the id of its model with it, or by its place in the list of those that
    ``registry`` shows: sorted by id, as ``/v1/models`` has them.
    """
    scales: dict[str, float] = {} if card.adapter is None else {card.adapter: _OWN_SCALE}
    if named:
        base = card.parent or card.id
        known = [
            each.adapter for each in registry.cards() if each.parent == base and each.adapter is not None
        ]
        seen: set[str] = set()
        for place, use in enumerate(named):
            name = _name(use.id, base, known)
            param = f"lora[{place}].id"
            if name is None:
                listed = ", ".join(f"'{each}'" for each in known) or "none"
                told = use.id if isinstance(use.id, int) else f"'{use.id[:200]}'"
                raise InvalidRequest(
                    f"'{param}': '{base}' has no adapter {told}; it has: {listed}.", param=param
                )
            if name in seen:
                raise InvalidRequest(f"'{param}': the adapter '{name}' is named twice.", param=param)
            seen.add(name)
            scales[name] = _OWN_SCALE if use.scale is None else use.scale
    return tuple(AdapterUse(name, scale) for name, scale in scales.items() if scale != 0)


def _name(adapter: str | int, base: str, known: Sequence[str]) -> str | None:
    if isinstance(adapter, int):
        return known[adapter] if adapter < len(known) else None
    name = adapter.removeprefix(f"{base}:")
    return name if name in known else None
