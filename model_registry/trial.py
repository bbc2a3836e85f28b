"""Trying a registered model out beside those that are loaded, within the same memory."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import msgspec

from engine.errors import ModelUnavailable
from model_registry.adapted_model import AdaptedModel
from model_registry.admission import Admission
from model_registry.config import RegistryConfig
from model_registry.engine_handle import StartEngine
from model_registry.model import Model
from model_registry.model_import import try_out, try_out_adapter
from model_registry.model_loader import MakeRoom
from model_registry.sources.directory import DirectorySource
from model_registry.sources.found_model import FoundModel
from model_registry.store.model_record import FileRecord
from model_registry.store.model_store import ModelStore
from model_registry.store.store_error import StoreError


class Trial:
    """Owned by the registry, and with it by the event loop."""

    def __init__(
        self,
        config: RegistryConfig,
        start_engine: StartEngine,
        admission: Admission,
        make_room: MakeRoom,
        store: ModelStore,
    ) -> None:
        self._config = config
        self._start_engine = start_engine
        self._admission = admission
        self._make_room = make_room
        self._store = store

    def reconfigure(self, config: RegistryConfig) -> None:
        """Go by ``config`` from now on."""
        self._config = config

    async def run(self, model: Model, source: str | None = None) -> FileRecord:
        """Load ``model`` once in a worker of its own, and keep what that told. ``source`` is where it was fetched
        from; None leaves what is known of that.

        Raises ModelLoadFailed, InsufficientMemory, and ModelUnavailable where the store cannot be written.
        """
        # A stand-in, since the model itself may be loaded, and then both take memory.
        stand_in = Model(model.found, model.source, model.record)
        with await self._booked(stand_in):
            record = await try_out(stand_in, self._config, self._start_engine, source=source or "")
        record = record.with_past_of(model.record.file if model.record else None)
        try:
            await asyncio.to_thread(self._store.set_file, model.id, record)
        except StoreError as error:
            raise ModelUnavailable(str(error)) from error
        return record

    async def run_with(self, adapted: AdaptedModel) -> None:
        """Load a model with its adapter once in a worker of its own. Raises ModelLoadFailed and InsufficientMemory."""
        model = adapted.model
        stand_in = Model(
            model.found, model.source, model.record, {adapted.name: adapted.file_bytes}, model.original
        )
        with await self._booked(stand_in):
            await try_out_adapter(stand_in, adapted.adapter.adapter, self._config, self._start_engine)

    async def reserve(self, model_id: str, path: Path) -> ExitStack:
        """Make room for a model that is tried out elsewhere, and count it as taken until the stack is closed.

        Raises InsufficientMemory.
        """
        source = DirectorySource(path.parent)
        found = FoundModel(id=model_id, path=path, file_bytes=0, created=0, owned_by="local")
        file_bytes = sum(file.stat().st_size for file in source.files(found))
        return await self._booked(Model(msgspec.structs.replace(found, file_bytes=file_bytes), source))

    async def _booked(self, model: Model) -> ExitStack:
        await self._make_room(model)
        stack = ExitStack()
        # No await between the room and its booking: another load would take it.
        stack.enter_context(self._admission.book(model))
        return stack
