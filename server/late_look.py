"""What a disk has to say, for those who must not wait for it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")


class LateLook(Generic[ValueT]):
    """Owned by the event loop, which a disk that hangs must not hold up: each call tells what a thread found after
    the one before, and starts the next look unless one still hangs.
    """

    def __init__(self, look: Callable[[], ValueT], name: str) -> None:
        """Looks once, at once. ``look`` blocks, and raises nothing; ``name`` is its thread's."""
        self._look = look
        self._name = name
        self._thread: Thread | None = None
        self._seen = look()

    def __call__(self) -> ValueT:
        seen = self._seen
        if self._thread is None or not self._thread.is_alive():
            self._thread = Thread(target=self._again, name=self._name, daemon=True)
            self._thread.start()
        return seen

    def _again(self) -> None:
        self._seen = self._look()
