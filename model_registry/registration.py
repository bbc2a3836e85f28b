"""From a file in the models directory to a model that is known: checked, tried out in a worker, and recorded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.errors import ModelLoadFailed, ModelProtected
from model_registry.config import RegistryConfig
from model_registry.engine_handle import StartEngine
from model_registry.model import Model
from model_registry.model_import import try_out
from model_registry.model_settings import ModelSettings
from model_registry.pull.pull_error import PullCancelled
from model_registry.sources.default_sources import default_sources
from model_registry.sources.directory import DirectorySource
from model_registry.sources.gguf_layout import read_layout
from model_registry.store.model_record import FileRecord, ModelRecord
from model_registry.store.model_store import ModelStore
from model_registry.store.store_error import StoreError

_POLL_S = 0.1
_Result = TypeVar("_Result")


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A model that works, and what was done and found besides."""

    id: str
    file: FileRecord
    vocabulary: int
    """Tokens that its vocabulary has."""
    notes: tuple[str, ...] = ()
    """Sentences for whoever asked for it."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be remembered of a file besides what it tells itself."""

    source: str = ""
    licence: str = ""
    alias: str = ""
    """Another name that requests may use, where no model has it."""
    family: str = ""
    """The chat template to use where the file has none and nobody has set one."""


def models_directory(config: RegistryConfig) -> Path:
    """Where models are put; it may not be there yet."""
    return config.models_dir or config.data_dir / "models"


def register(
    path: Path,
    config: RegistryConfig,
    start_engine: StartEngine,
    wanted: Wanted | None = None,
    cancel: threading.Event | None = None,
) -> Registered:
    """Try out the model whose first file is ``path``, in the models directory, and record what it told. What was known
    of the same bytes before, and is not ``wanted`` otherwise, stays.

    Blocks; in any thread but one with a running event loop. Raises ModelLoadFailed and InsufficientMemory, which name
    the mend, ModelProtected where another model has its id, and PullCancelled.
    """
    wanted = wanted or Wanted()
    source = DirectorySource(path.parent)
    found = next((each for each in source.find().models if each.path == path), None)
    if found is None:
        raise ModelProtected(f"{path} is not served: another model has its id, rename one of the two files")
    if found.failure:
        raise ModelLoadFailed(found.failure)
    layouts = [read_layout(file) for file in source.files(found)]
    store = ModelStore.in_directory(config.data_dir)
    notes: list[str] = []
    record = ModelRecord(id=found.id)
    try:
        record = store.record(found.id)
    except StoreError as error:
        notes.append(str(error))
    template = wanted.family if not layouts[0].has_template and record.settings.chat_template is None else ""
    if template:
        settings = ModelSettings(chat_template=template).over(record.settings)
        record = msgspec.structs.replace(record, settings=settings)
    model = Model(found, source, record)
    file = run_blocking(try_out(model, config, start_engine, source=wanted.source), cancel)
    file = msgspec.structs.replace(file, licence=wanted.licence).with_past_of(record.file)
    try:
        store.set_file(found.id, file)
        if template:
            store.set_settings(found.id, record.settings)
            notes.append(f"its file has no chat template: '{template}' is set for it")
        if note := _name(store, found.id, wanted.alias, config):
            notes.append(note)
    except StoreError as error:
        # It works, and is served all the same: a lost record loses words and no model.
        notes.append(str(error))
    return Registered(
        id=found.id, file=file, vocabulary=max(layout.vocabulary for layout in layouts), notes=tuple(notes)
    )


def _name(store: ModelStore, model_id: str, alias: str, config: RegistryConfig) -> str:
    """Let ``alias`` mean the model, unless that is its id or another's name. Returns what is worth telling."""
    if not alias or alias == model_id:
        return ""
    sources = default_sources(msgspec.structs.replace(config, models_dir=models_directory(config)))
    ids = {found.id for source in sources for found in source.find().models}
    owner = next((record.id for record in store.records().values() if alias in record.aliases), model_id)
    if alias in ids or owner != model_id:
        return f"'{alias}' is the name of another model already: call this one '{model_id}'"
    store.add_aliases(model_id, [alias])
    return f"requests may also call it '{alias}'"


def run_blocking(work: Coroutine[Any, Any, _Result], cancel: threading.Event | None = None) -> _Result:
    """Run ``work`` on an event loop of its own until it ends, or until ``cancel`` is set: PullCancelled."""
    cancel = cancel or threading.Event()

    async def watched() -> _Result:
        task = asyncio.create_task(work)
        while not task.done():
            await asyncio.wait({task}, timeout=_POLL_S)
            if cancel.is_set():
                task.cancel()
        if task.cancelled():
            raise PullCancelled(
                "the import was cancelled while the model was tried out: import it when it suits"
            )
        return task.result()

    # asyncio's own loop, whatever the process has made its default: this may be a thread beside uvloop's.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(watched())
