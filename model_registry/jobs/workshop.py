"""What the works of jobs stand on."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.config import EngineConfig
from model_registry.adapter_files import AdapterFiles
from model_registry.adapter_import import ImportedAdapter
from model_registry.config import RegistryConfig
from model_registry.engine_handle import EngineHandle, StartEngine
from model_registry.jobs.job_report import JobReport
from model_registry.model_detail import ModelDetail
from model_registry.registration import Registered
from model_registry.store.model_record import FileRecord


class JobRegistry(Protocol):
    """The registry as jobs see it; runs on its own event loop. The real one is ``model_registry.registry``'s."""

    def detail(self, model_id: str) -> ModelDetail: ...

    async def take_in(self, path: Path) -> str: ...

    async def look(self) -> None: ...

    async def try_out(self, model_id: str, source: str | None = None) -> FileRecord: ...

    def adapter_files(self, model_id: str) -> AdapterFiles | None: ...

    async def try_out_adapter(self, model_id: str) -> None: ...

    async def reserve(self, model_id: str, path: Path) -> ExitStack: ...


@dataclass(frozen=True, slots=True)
class Workshop:
    """Used by the threads that do the work."""

    registry: JobRegistry
    config: RegistryConfig
    start_engine: StartEngine

    def detail(self, model_id: str, report: JobReport) -> ModelDetail:
        """Raises ModelNotFound."""

        async def ask() -> ModelDetail:
            return self.registry.detail(model_id)

        return report.run(ask())

    def adapter_files(self, model_id: str, report: JobReport) -> AdapterFiles | None:
        """None where the name is that of a model by itself, or of none."""

        async def ask() -> AdapterFiles | None:
            return self.registry.adapter_files(model_id)

        return report.run(ask())

    def starting(self, report: JobReport) -> StartEngine:
        """How a work starts an engine on a loop of its own: within the memory that the registry has to give."""

        async def start(config: EngineConfig) -> EngineHandle:
            reserved = report.begin(self.registry.reserve(config.model_id, Path(config.model_path)))
            booking = await asyncio.wrap_future(reserved)
            try:
                return await self.start_engine(config)
            finally:
                report.call(booking.close)

        return start

    @contextmanager
    def room(self, model_id: str, path: Path, report: JobReport) -> Generator[None]:
        """Within, memory is kept for a process that loads the file at ``path``. Raises InsufficientMemory."""
        booking = report.run(self.registry.reserve(model_id, path))
        try:
            yield
        finally:
            report.call(booking.close)

    def take_in(self, registered: Registered | ImportedAdapter, report: JobReport) -> str:
        """Have the registry notice a model, or an adapter, that was just put in its place; its id."""
        if isinstance(registered, ImportedAdapter):
            return report.run(self.registry.take_in(Path(registered.path)))
        report.run(self.registry.take_in(Path(registered.file.path)))
        for note in registered.notes:
            report.say(note)
        return registered.id
