"""Serving an adapter whose file lies elsewhere: held against its model, tried out, and linked without copying."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec

from engine.adapter import Adapter
from engine.errors import InvalidRequest, ModelLoadFailed, ModelUnavailable
from model_registry.adapter_finder import AdapterFinder
from model_registry.config import RegistryConfig
from model_registry.engine_handle import StartEngine
from model_registry.model import Model
from model_registry.model_adapter import ModelAdapter, is_adapter_name
from model_registry.model_import import try_out_adapter
from model_registry.model_link import link_model, unlink
from model_registry.registration import models_directory, run_blocking
from model_registry.shelf import Shelf
from model_registry.sources.default_sources import default_sources
from model_registry.sources.found_adapter import find_adapter
from model_registry.store.model_store import ModelStore
from model_registry.store.store_error import StoreError


class ImportedAdapter(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter that works."""

    id: str
    """What requests name."""
    model: str
    file_bytes: int
    path: str


def import_adapter(
    path: Path,
    config: RegistryConfig,
    start_engine: StartEngine,
    *,
    model_name: str | None = None,
    cancel: threading.Event | None = None,
) -> ImportedAdapter:
    """Serve the adapter at ``path`` with the model of that name, or with the one that its file tells.

    Blocks, in any thread but one with a running event loop. Raises ModelLoadFailed, InsufficientMemory, ModelNotFound,
    InvalidRequest, ModelProtected, ModelUnavailable and PullCancelled; then nothing has changed.
    """
    path = path.expanduser().absolute()
    name = path.stem.lower()
    if not is_adapter_name(name):
        raise ModelLoadFailed(
            f"{path}: letters, digits, '.', '_' and '-' make the name of an adapter; rename it"
        )
    store = ModelStore.in_directory(config.data_dir)
    shelf = Shelf(default_sources(config), store, config)
    shelf.fill()
    model = shelf.named(_fitting(path, name, shelf, model_name))
    adapter = ModelAdapter(model.id, Adapter(name, str(path)))
    run_blocking(try_out_adapter(model, adapter.adapter, config, start_engine), cancel)
    directory = models_directory(config)
    made = [] if path.parent == directory.absolute() else link_model(directory, [(path.name, path)])
    try:
        if model_name is not None:
            _remember(store, model.id, name)
    except StoreError as error:
        unlink(made)
        raise ModelUnavailable(str(error)) from error
    return ImportedAdapter(
        id=adapter.id, model=model.id, file_bytes=path.stat().st_size, path=str(directory / path.name)
    )


def _fitting(path: Path, name: str, shelf: Shelf, model_name: str | None) -> str:
    """The id of its model. Raises ModelLoadFailed where it is not for that, ModelNotFound and InvalidRequest."""
    candidates = [*filter(_is_original, shelf)] if model_name is None else [shelf.named(model_name)]
    if model_name is not None and shelf.adapted(model_name) is not None:
        raise InvalidRequest(f"'{model_name}' has an adapter already: name the model by itself")
    try:
        found = find_adapter(path, name)
    except OSError as error:
        raise ModelLoadFailed(f"{path} cannot be read ({error.strerror})") from error
    # Names settle which model it is, where none is named; where one is, it must fit.
    placed, _ = AdapterFinder().place(
        [found], {each.id: (each.found, each.source) for each in candidates}, {}
    )
    if placed[0].model is None:
        raise ModelLoadFailed(placed[0].failure or f"{path} is for none of the models here")
    return placed[0].model


def _is_original(model: Model) -> bool:
    """Whether it was not made of another model, which an adapter fits just as well."""
    return model.record is None or model.record.file is None or not model.record.file.parent


def _remember(store: ModelStore, model_id: str, name: str) -> None:
    settings = store.record(model_id).settings
    if name not in (settings.adapters or ()):
        store.set_settings(
            model_id, msgspec.structs.replace(settings, adapters=(*(settings.adapters or ()), name))
        )
