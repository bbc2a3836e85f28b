"""Whether there is memory for one more model, and how much is missing."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager

from engine.errors import InsufficientMemory
from engine.memory import available_bytes
from model_registry.adapted_model import AdaptedModel
from model_registry.config import RegistryConfig
from model_registry.memory import estimate_bytes, least_bytes
from model_registry.memory_forecast import collapse
from model_registry.model import Model


class Admission:
    """Counts what models hold and what loads under way will take. Owned by the event loop, through the registry."""

    def __init__(self, config: RegistryConfig, available: Callable[[], int | None] = available_bytes) -> None:
        self._config = config
        self._available = available
        self._booked: dict[object, int] = {}
        """Estimates of loads under way, whose memory the machine does not show as used yet; one for each load, since
        a model may be tried out while it loads, and a file that is replaced makes two of one id."""

    def reconfigure(self, config: RegistryConfig) -> None:
        """Count by ``config`` from now on."""
        self._config = config

    def needed_bytes(self, model: Model) -> int:
        """What ``model`` will take, before it is loaded: its weights, the draft model's and its adapters', KV cache,
        buffers."""
        kv_budget = model.engine_config(self._config).kv_budget_bytes
        return estimate_bytes(self._file_bytes(model), kv_budget) + sum(model.adapter_bytes.values())

    def held_bytes(self, model: Model) -> int:
        """What ``model`` takes while it is loaded: as estimated, but with the KV cache that it really made, and those
        of its adapters that it has."""
        if model.facts is None or model.engine is None:
            return self.needed_bytes(model)
        loaded = sum(size for name, size in model.adapter_bytes.items() if name in model.engine.adapters)
        return estimate_bytes(self._file_bytes(model), model.facts.kv_bytes) + loaded

    def missing_bytes(self, model: Model, loaded: Iterable[Model], *, is_alone: bool) -> int:
        """How much must be given back before ``model`` may load; 0 or less is none.

        One that is alone is not refused because its weights exceed the memory: on a small machine weights that are
        mapped from the file work slowly where an estimate says no. See ``warning``.
        """
        needed, booked = self.needed_bytes(model), sum(self._booked.values())
        missing = 0
        if self._config.memory_budget_bytes is not None:
            held = sum(map(self.held_bytes, loaded))
            missing = held + booked + needed - self._config.memory_budget_bytes
        available = self._available()
        if available is not None:
            missing = max(missing, booked + (self._least_bytes(model) if is_alone else needed) - available)
        return missing

    def missing_beside(self, adapted: AdaptedModel, loaded: Iterable[Model]) -> int:
        """The same for an adapter that is to be loaded into its running model, which is one of ``loaded``."""
        needed = adapted.file_bytes + sum(self._booked.values())
        missing = 0
        if self._config.memory_budget_bytes is not None:
            missing = sum(map(self.held_bytes, loaded)) + needed - self._config.memory_budget_bytes
        available = self._available()
        return missing if available is None else max(missing, needed - available)

    def could_alone(self, model: Model, loaded: Iterable[Model]) -> bool:
        """Whether ``model`` could load if all of ``loaded`` were gone and nothing else were loading."""
        budget, available = self._config.memory_budget_bytes, self._available()
        if self._booked or (budget is not None and self.needed_bytes(model) > budget):
            return False
        given_back = sum(map(self.held_bytes, loaded))
        return available is None or self._least_bytes(model) <= available + given_back

    def warning(self, model: Model) -> str | None:
        """What is to be expected of a load for which there is too little memory. To be asked once it is booked."""
        needed, available = self.needed_bytes(model), self._available()
        if available is None or needed <= available:
            return None
        told = collapse(self._file_bytes(model), needed, available)
        return f"{model.id}: {told}; take a smaller file, or give the server more memory"

    def _least_bytes(self, model: Model) -> int:
        adapters = sum(model.adapter_bytes.values())
        return least_bytes(model.engine_config(self._config).kv_budget_bytes) + adapters

    def _file_bytes(self, model: Model) -> int:
        return model.found.file_bytes + self._config.draft_bytes

    def refusal(self, model: Model, loaded: Iterable[Model]) -> InsufficientMemory:
        """Why ``model`` cannot load, with the numbers, and what mends it."""
        return self._refusal(f"model '{model.id}'", self.needed_bytes(model), loaded)

    def refusal_beside(self, adapted: AdaptedModel, loaded: Iterable[Model]) -> InsufficientMemory:
        """The same of an adapter."""
        return self._refusal(f"the adapter '{adapted.id}'", adapted.file_bytes, loaded)

    def _refusal(self, what: str, needed: int, loaded: Iterable[Model]) -> InsufficientMemory:
        budget, available, booked = (
            self._config.memory_budget_bytes,
            self._available(),
            sum(self._booked.values()),
        )
        told = [f"{what} needs about {_megabytes(needed)} MB"]
        if available is not None:
            told.append(f"{_megabytes(available)} MB are free")
        if budget is not None:
            held = sum(map(self.held_bytes, loaded))
            told.append(
                f"{_megabytes(held)} of the {_megabytes(budget)} MB of memory_budget are held by others"
            )
        taken = f" ({_megabytes(booked)} MB of them taken by models that load now)" if booked else ""
        return InsufficientMemory(
            f"{' and '.join(told)}{taken}, and no model that is idle could make the room:"
            " serve a smaller model, or give the server more memory"
        )

    @contextmanager
    def book(self, what: Model | AdaptedModel) -> Generator[None]:
        """Count the memory of a model, or of an adapter, as taken while it loads."""
        booking = object()
        self._booked[booking] = self.needed_bytes(what) if isinstance(what, Model) else what.file_bytes
        try:
            yield
        finally:
            del self._booked[booking]


def _megabytes(count: int) -> int:
    return round(count / 1e6)
