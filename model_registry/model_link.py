"""A model whose files lie elsewhere: linked into the models directory, without copying."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path

from engine.errors import ModelLoadFailed, ModelProtected
from model_registry.caches.cached_model import CachedModel
from model_registry.config import RegistryConfig
from model_registry.engine_handle import StartEngine
from model_registry.registration import Registered, Wanted, models_directory, register
from model_registry.sources.directory import DirectorySource

Links = Sequence[tuple[str, Path]]
"""Names in the models directory, and what each leads to; the first part of a split model first."""


def import_file(
    path: Path, config: RegistryConfig, start_engine: StartEngine, cancel: threading.Event | None = None
) -> Registered:
    """Serve the model whose file, or first part, is ``path``: link it, try it out, and record it.

    A file in the models directory itself is only tried out. Blocks, in any thread but one with a running event loop.
    Raises ModelLoadFailed, InsufficientMemory, ModelProtected and PullCancelled; then nothing is linked.
    """
    path = path.expanduser().absolute()
    source = DirectorySource(path.parent)
    found = next((model for model in source.find().models if model.path == path), None)
    if found is None:
        raise ModelLoadFailed(f"{path} is no model: name a .gguf file, of a split model the first part")
    if found.failure:
        raise ModelLoadFailed(found.failure)
    if path.parent == models_directory(config).absolute():
        return register(path, config, start_engine, cancel=cancel)
    files = [(file.name, file) for file in source.files(found)]
    return _import(files, Wanted(), config, start_engine, cancel)


def import_cached(
    model: CachedModel,
    config: RegistryConfig,
    start_engine: StartEngine,
    cancel: threading.Event | None = None,
) -> Registered:
    """The same for a model of another program's cache."""
    return _import(model.files, Wanted(source=model.source), config, start_engine, cancel)


def link_model(directory: Path, files: Links) -> list[Path]:
    """Link all files into ``directory``. Returns the links that are new. Raises ModelProtected; then none is left.

    The first part last: then a server never sees it without the others, and after a kill there is no model yet.
    """
    made: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, target in reversed(files):
            link = directory / name
            if link.exists() and link.samefile(target):
                continue
            if link.exists() or link.is_symlink():
                raise ModelProtected(f"{link} is there, and is another file: remove it, or rename it")
            link.symlink_to(target.absolute())
            made.append(link)
    except (OSError, ModelProtected) as error:
        unlink(made)
        if isinstance(error, ModelProtected):
            raise
        where = error.filename2 or error.filename or directory
        raise ModelProtected(f"{where} cannot be made ({error.strerror})") from error
    return made


def unlink(links: Sequence[Path]) -> None:
    """Take back links, the first part first."""
    for link in reversed(links):
        with contextlib.suppress(OSError):
            link.unlink()


def _import(
    files: Links,
    wanted: Wanted,
    config: RegistryConfig,
    start_engine: StartEngine,
    cancel: threading.Event | None,
) -> Registered:
    directory = models_directory(config)
    made = link_model(directory, files)
    try:
        return register(directory / files[0][0], config, start_engine, wanted, cancel)
    except BaseException:
        unlink(made)
        raise
