"""Whether there is memory for one more model, and how much is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager

from engine.errors import InsufficientMemory
from engine.memory import available_bytes
from engine.reserve import reserved_bytes
from model_registry.adapted_model import AdaptedModel
from model_registry.allowance import Allowance, allow
from model_registry.config import RegistryConfig
from model_registry.memory import KV_FLOOR_BYTES, estimate_bytes, least_bytes
from model_registry.memory_forecast import Shortage
from model_registry.model import Model


class Admission:
    """Counts what models hold and what loads under way will take. Owned by the event loop, through the registry."""

    def __init__(self, config: RegistryConfig, available: Callable[[], int | None] = available_bytes) -> None:
        self._config = config
        self._available = available
        self._models: Callable[[], Iterable[Model]] = tuple
        self._booked: dict[object, int] = {}
        """What loads under way may take, which the machine does not show as used yet; one for each load, since a
        model may be tried out while it loads, and a file that is replaced makes two of one id."""
        self._waiting: list[asyncio.Future[None]] = []

    def reconfigure(self, config: RegistryConfig) -> None:
        """Count by ``config`` from now on."""
        self._config = config

    def count(self, models: Callable[[], Iterable[Model]]) -> None:
        """Keep for ``models``, those of them that are loaded, what they were promised and have not taken yet."""
        self._models = models

    def _left_bytes(self) -> int | None:
        """What nobody has and nobody was promised, but for loads under way; None where nobody tells."""
        available = self._available()
        if available is None:
            return None
        engines = (model.engine for model in self._models() if model.engine is not None)
        return available - sum(reserved_bytes(engine.facts, engine.memory) for engine in engines)

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

    def _promised_bytes(self, loaded: Iterable[Model]) -> int:
        """What ``loaded`` hold of the budget: with the prefixes that they may come to save."""
        return sum(
            self.held_bytes(each) + (0 if each.facts is None else each.facts.prefix_bytes) for each in loaded
        )

    def allowance(self, model: Model, loaded: Iterable[Model]) -> Allowance | None:
        """What ``model`` may take beside its weights, with ``loaded`` there and others loading.

        None where nothing bounds it but what its engine finds, or where the weights alone are too much.
        """
        config = model.engine_config(self._config)
        booked, left = sum(self._booked.values()), []
        if (available := self._left_bytes()) is not None:
            left.append(available - booked)
        if self._config.memory_budget_bytes is not None:
            left.append(self._config.memory_budget_bytes - self._promised_bytes(loaded) - booked)
        weights = estimate_bytes(self._file_bytes(model), 0) + sum(model.adapter_bytes.values())
        if not left or min(left) <= weights:
            return None
        return allow(min(left) - weights, config, least_kv_bytes=KV_FLOOR_BYTES)

    def missing_bytes(self, model: Model, loaded: Iterable[Model], *, is_alone: bool) -> int:
        """How much must be given back before ``model`` may load; 0 or less is none.

        One that is alone is not refused because its weights exceed the memory: on a small machine weights that are
        mapped from the file work slowly where an estimate says no. See ``shortage``.
        """
        needed, booked = self.needed_bytes(model), sum(self._booked.values())
        missing = 0
        if self._config.memory_budget_bytes is not None:
            missing = self._promised_bytes(loaded) + booked + needed - self._config.memory_budget_bytes
        available = self._left_bytes()
        if available is not None:
            missing = max(missing, booked + (self._least_bytes(model) if is_alone else needed) - available)
        return missing

    def missing_beside(self, adapted: AdaptedModel, loaded: Iterable[Model]) -> int:
        """The same for an adapter that is to be loaded into its running model, which is one of ``loaded``."""
        needed = adapted.file_bytes + sum(self._booked.values())
        missing = 0
        if self._config.memory_budget_bytes is not None:
            missing = self._promised_bytes(loaded) + needed - self._config.memory_budget_bytes
        available = self._left_bytes()
        return missing if available is None else max(missing, needed - available)

    def could_alone(self, model: Model, loaded: Iterable[Model]) -> bool:
        """Whether ``model`` could load if all of ``loaded`` were gone and nothing else were loading."""
        budget, available = self._config.memory_budget_bytes, self._left_bytes()
        if self._booked or (budget is not None and self.needed_bytes(model) > budget):
            return False
        given_back = sum(map(self.held_bytes, loaded))
        return available is None or self._least_bytes(model) <= available + given_back

    def shortage(self, model: Model) -> Shortage | None:
        """Of a load for which there is too little memory. To be asked once it is booked."""
        needed, available = self.needed_bytes(model), self._left_bytes()
        if available is None or needed <= available:
            return None
        return Shortage(self._file_bytes(model), needed, available)

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
            self._left_bytes(),
            sum(self._booked.values()),
        )
        told = [f"{what} needs about {_megabytes(needed)} MB"]
        if available is not None:
            told.append(f"{_megabytes(available)} MB are free")
        mend = "serve a smaller model, or give the server more memory"
        if budget is not None:
            held = self._promised_bytes(loaded)
            told.append(
                f"{_megabytes(held)} of the {_megabytes(budget)} MB of memory_budget are held by others"
            )
            if available is None or budget - held < available:
                mend = "raise memory_budget, lower kv_budget, or serve a smaller model"
        taken = f" ({_megabytes(booked)} MB of them taken by models that load now)" if booked else ""
        return InsufficientMemory(
            f"{' and '.join(told)}{taken}, and no model that is idle could make the room: {mend}"
        )

    @property
    def booked_bytes(self) -> int:
        """What loads under way may take. They may take less than they are allowed."""
        return sum(self._booked.values())

    async def booking_ends(self) -> None:
        """Wait until one of the loads under way has ended."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    @contextmanager
    def book(self, what: Model | AdaptedModel, allowance: Allowance | None = None) -> Generator[None]:
        """Count the memory of a model with its ``allowance``, or of an adapter, as taken while it loads."""
        booking = object()
        booked = self.needed_bytes(what) if isinstance(what, Model) else what.file_bytes
        if isinstance(what, Model) and allowance is not None:
            weights = estimate_bytes(self._file_bytes(what), 0) + sum(what.adapter_bytes.values())
            booked = max(booked, weights + allowance.bytes)
        self._booked[booking] = booked
        try:
            yield
        finally:
            del self._booked[booking]
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiting.clear()


def _megabytes(count: int) -> int:
    return round(count / 1e6)
