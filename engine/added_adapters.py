"""Adapters that came to an engine after its start: loaded into the running worker, and into each that follows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from engine import frames
from engine.adapter import Adapter
from engine.errors import NibbleError, WorkerDied
from engine.exchange import Body, Reader
from engine.gathering import AdapterGathering
from engine.worker_process import WorkerProcess

_logger = logging.getLogger("nibble.engine")

OpenExchange = Callable[[WorkerProcess, Body, Reader], AbstractContextManager[int]]
Submit = Callable[[WorkerProcess, frames.ToWorker], None]


class AddedAdapters:
    """Part of an engine, through whose exchanges it talks to the worker. Owned by the event loop."""

    def __init__(
        self, model_id: str, open_exchange: OpenExchange, submit: Submit, on_change: Callable[[], None]
    ) -> None:
        """``on_change`` is called whenever there is another one, or one less."""
        self._model_id = model_id
        self._open_exchange = open_exchange
        self._submit = submit
        self._on_change = on_change
        self._adapters: dict[str, Adapter] = {}
        self._loading: set[asyncio.Task[None]] = set()

    @property
    def by_name(self) -> Mapping[str, Adapter]:
        return self._adapters

    async def load(self, worker: WorkerProcess, adapter: Adapter) -> None:
        """Raises ModelLoadFailed for a file that cannot be used, RequestQuarantined and WorkerDied."""
        await self._ask(worker, adapter, lambda number: frames.LoadAdapter(number, adapter))
        self._adapters[adapter.name] = adapter
        self._on_change()

    async def drop(self, name: str, worker: Callable[[], WorkerProcess]) -> None:
        """Harmless for a name that is none of these. Raises WorkerDied, and what asking for the ``worker`` raises."""
        adapter = self._adapters.pop(name, None)
        if adapter is not None:
            self._on_change()
            await self._ask(worker(), adapter, lambda number: frames.DropAdapter(number, name))

    async def _ask(
        self,
        worker: WorkerProcess,
        adapter: Adapter,
        frame: Callable[[int], frames.LoadAdapter | frames.DropAdapter],
    ) -> None:
        gathering = AdapterGathering()
        with self._open_exchange(worker, adapter, gathering) as number:
            self._submit(worker, frame(number))
            await gathering.result()

    def load_again(self, worker: WorkerProcess) -> None:
        """Send a new worker all of them, before any request."""
        for adapter in list(self._adapters.values()):
            gathering = AdapterGathering()
            exchange = contextlib.ExitStack()
            try:
                number = exchange.enter_context(self._open_exchange(worker, adapter, gathering))
            except NibbleError as error:
                self._lose(adapter, error)  # it was there when two workers died
                continue
            self._submit(worker, frames.LoadAdapter(number, adapter))
            task = asyncio.create_task(self._loaded_again(exchange, gathering, adapter))
            self._loading.add(task)
            task.add_done_callback(self._loading.discard)
        self._on_change()

    async def _loaded_again(
        self, exchange: contextlib.ExitStack, gathering: AdapterGathering, adapter: Adapter
    ) -> None:
        try:
            with exchange:
                await gathering.result()
        except WorkerDied:
            return  # the next one is asked again
        except NibbleError as error:
            self._lose(adapter, error)
            self._on_change()

    def _lose(self, adapter: Adapter, error: NibbleError) -> None:
        """What cannot be loaded any more is an adapter less, and no reason to have no model."""
        _logger.error("the adapter '%s' of %s is lost: %s", adapter.name, self._model_id, error.message)
        if self._adapters.get(adapter.name) == adapter:
            del self._adapters[adapter.name]
