"""The adapters of a loaded model, by name."""

from __future__ import annotations

import math
from collections.abc import Iterable

from engine.adapter import Adapter, AdapterUse
from engine.adapter_set import NO_ADAPTERS, AdapterSet
from engine.errors import InvalidRequest, ModelLoadFailed

MOST_SCALE = 16.0
"""Further from 0, an adapter overwhelms its model, and soon computes no numbers at all."""


class AdapterCatalog:
    """Turns what requests name into adapter sets.

    Any thread may ``select``; one alone changes it, by which the mapping is replaced as a whole.
    """

    def __init__(self, adapters: Iterable[tuple[Adapter, str]] = ()) -> None:
        """Each adapter with a key of what its file holds, in the order in which the backend knows them."""
        self._adapters = {
            adapter.name: (place, adapter, key) for place, (adapter, key) in enumerate(adapters)
        }
        self._places = len(self._adapters)

    def new_place(self) -> int:
        """A number for one more adapter, never used before."""
        self._places += 1
        return self._places - 1

    def put(self, place: int, adapter: Adapter, key: str) -> int | None:
        """Let requests name ``adapter``. Returns the place of the one whose name it takes."""
        former = self._adapters.get(adapter.name)
        self._adapters = {**self._adapters, adapter.name: (place, adapter, key)}
        return None if former is None else former[0]

    def remove(self, name: str) -> int | None:
        """Let no request name it any more. Returns its place, if there was one of that name."""
        left = dict(self._adapters)
        former = left.pop(name, None)
        self._adapters = left
        return None if former is None else former[0]

    def select(self, uses: Iterable[AdapterUse]) -> AdapterSet:
        """The set that ``uses`` name. Raises InvalidRequest."""
        adapters = self._adapters
        chosen: dict[int, tuple[float, str]] = {}
        for use in uses:
            if use.name not in adapters:
                known = ", ".join(adapters) or "none"
                raise InvalidRequest(f"this model has no adapter '{use.name}'; it has: {known}", param="lora")
            place, adapter, key = adapters[use.name]
            if place in chosen:
                raise InvalidRequest(f"the adapter '{use.name}' is named twice", param="lora")
            scale = adapter.scale if use.scale is None else use.scale
            if not is_scale(scale):
                raise InvalidRequest(
                    f"the scale of the adapter '{use.name}' must be a number from -{MOST_SCALE:g} to {MOST_SCALE:g}",
                    param="lora",
                )
            chosen[place] = (scale, key)
        # llama.cpp leaves out what has the scale 0: that is the model without it.
        counting = {place: each for place, each in sorted(chosen.items()) if each[0] != 0.0}
        if not counting:
            return NO_ADAPTERS
        return AdapterSet(
            scales=tuple((place, scale) for place, (scale, _) in counting.items()),
            key="+".join(f"{key}*{scale!r}" for scale, key in counting.values()),
        )


def is_scale(scale: float) -> bool:
    """Whether an adapter can have this scale. NaN is none."""
    return math.isfinite(scale) and abs(scale) <= MOST_SCALE


def check_adapter(adapter: Adapter) -> None:
    """Raises ModelLoadFailed for one that has no name, or a scale that is none."""
    if not adapter.name:
        raise ModelLoadFailed("an adapter needs a name; give each in `adapters` its own")
    if not is_scale(adapter.scale):
        raise ModelLoadFailed(
            f"the scale of the adapter '{adapter.name}' must be a number from -{MOST_SCALE:g} to {MOST_SCALE:g}"
        )
