"""Serving a file of this machine, whichever it is: a model, or a LoRA adapter. For the command, and for the job."""

from __future__ import annotations

import threading
from pathlib import Path

from engine.errors import InvalidRequest
from model_registry.adapter_import import ImportedAdapter, import_adapter
from model_registry.config import RegistryConfig
from model_registry.engine_handle import StartEngine
from model_registry.model_link import import_file
from model_registry.registration import Registered
from model_registry.sources.gguf_layout import is_adapter


def import_local(
    path: Path,
    config: RegistryConfig,
    start_engine: StartEngine,
    *,
    model_name: str | None = None,
    cancel: threading.Event | None = None,
) -> Registered | ImportedAdapter:
    """What ``path`` turned out to be. ``model_name`` is the model that an adapter is for, where its file does not tell.

    Blocks, in any thread but one with a running event loop. Raises InvalidRequest for the model of what is no adapter,
    and what ``import_file`` and ``import_adapter`` raise; then nothing has changed.
    """
    path = path.expanduser()
    if is_adapter(path):
        return import_adapter(path, config, start_engine, model_name=model_name, cancel=cancel)
    if model_name is not None:
        raise InvalidRequest(f"'for' names the model of a LoRA adapter, and '{path}' is none", param="for")
    return import_file(path, config, start_engine, cancel)
