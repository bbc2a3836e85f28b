"""Whether there is memory for one more model. Eviction will make room here; today the answer is yes or no."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from engine.errors import InsufficientMemory
from engine.memory import available_bytes
from model_registry.memory import estimate_bytes
from model_registry.sources.found_model import FoundModel


class Admission:
    """Books the memory of loads that are under way. Owned by the event loop, through the registry."""

    def __init__(
        self, kv_budget_bytes: int | None, available: Callable[[], int | None] = available_bytes
    ) -> None:
        self._kv_budget_bytes = kv_budget_bytes
        self._available = available
        self._booked_bytes = 0
        """Estimates of loads under way, whose memory the machine does not show as used yet."""

    @contextmanager
    def admit(self, model: FoundModel, *, is_first: bool) -> Generator[None]:
        """Book the model's memory while it loads. Raises InsufficientMemory, with the numbers.

        The first model is never refused: on a small machine weights that are mapped from the file work slowly
        where an estimate says no, and the worker itself tells what is impossible.
        """
        needed = estimate_bytes(model.file_bytes, self._kv_budget_bytes)
        available = self._available()
        if not is_first and available is not None and needed > available - self._booked_bytes:
            raise InsufficientMemory(
                f"model '{model.id}' needs about {_megabytes(needed)} MB and"
                f" {_megabytes(available)} MB are free"
                f" ({_megabytes(self._booked_bytes)} MB of them taken by models that load now):"
                " serve a smaller model, or give the server more memory"
            )
        self._booked_bytes += needed
        try:
            yield
        finally:
            self._booked_bytes -= needed


def _megabytes(count: int) -> int:
    return round(count / 1e6)
