"""The adapters that are in memory beside a running model: new ones are loaded, those that nobody uses are freed."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

from engine.adapter import Adapter
from engine.adapter_trial import try_adapter
from engine.backend import Backend, DecodeFailed
from engine.errors import InternalError, NibbleError
from engine.executor import Executor
from engine.prefix_cache import PrefixCache
from engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class AdapterOrder:
    """``adapter`` is to be loaded at ``place``; or what is there is to go, once nobody uses it."""

    place: int
    adapter: Adapter | None = None
    done: Future[None] = field(default_factory=Future)
    """Ends with ModelLoadFailed where the file cannot be used; then nothing has changed."""


class AdapterRack:
    """Owned by the worker's engine thread. A place is never used twice."""

    def __init__(self, backend: Backend, executor: Executor, cache: PrefixCache) -> None:
        self._backend = backend
        self._executor = executor
        self._cache = cache
        self._leaving: set[int] = set()
        self._freed: set[int] = set()

    def obey(self, order: AdapterOrder) -> int | None:
        """Do it, and tell ``order.done``. Returns the slot whose sequence was lost over it, if one was."""
        try:
            if order.adapter is None:
                self._leaving.add(order.place)
            else:
                self._load(order.place, order.adapter)
        except _SlotLost as lost:
            order.done.set_exception(InternalError(str(lost)))
            return lost.slot
        except Exception as error:
            # Whatever it is, somebody waits to be told.
            order.done.set_exception(
                error if isinstance(error, NibbleError) else InternalError(f"the adapter fails: {error!r}")
            )
        else:
            order.done.set_result(None)
        return None

    def lacks(self, sequences: Iterable[Sequence]) -> bool:
        """Whether one of them needs an adapter that is freed: it was read before that went, and comes after."""
        return bool(self._freed) and any(not self._freed.isdisjoint(_places(each)) for each in sequences)

    def free_unused(self, sequences: Iterable[Sequence]) -> None:
        """Free what is to go and none of ``sequences`` uses. Cheap where nothing is to go."""
        if not self._leaving:
            return
        used = {place for sequence in sequences if sequence.is_live for place in _places(sequence)}
        for place in self._leaving - used:
            self._leaving.remove(place)
            self._freed.add(place)
            self._executor.leave_adapter(place)
            self._backend.free_adapter(place)

    def _load(self, place: int, adapter: Adapter) -> None:
        self._backend.load_adapter(place, adapter)
        try:
            self._try(place, adapter)
        except BaseException:
            self._executor.leave_adapter(place)
            self._backend.free_adapter(place)
            raise

    def _try(self, place: int, adapter: Adapter) -> None:
        """Compute a token with it, in a slot that is lent: where a sequence runs on it, it gets all back."""
        slot, is_running = self._cache.lend()
        state = self._backend.save_slot(slot) if is_running else None
        self._executor.disturb()
        self._backend.clear_slot(slot)
        try:
            try_adapter(self._backend, adapter.name, place, slot)
        finally:
            if state is not None:
                try:
                    self._backend.load_slot(slot, state)
                except DecodeFailed as error:
                    raise _SlotLost(slot, f"a slot could not be restored: {error}") from error


class _SlotLost(Exception):
    def __init__(self, slot: int, why: str) -> None:
        super().__init__(why)
        self.slot = slot


def _places(sequence: Sequence) -> list[int]:
    return [place for place, _ in sequence.adapters.scales]
