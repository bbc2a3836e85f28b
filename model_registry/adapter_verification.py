"""Whether an adapter is still one for its model: header, base and shapes, and its digest where that is known."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from engine.errors import ModelLoadFailed, NibbleError
from model_registry.adapted_model import AdaptedModel
from model_registry.adapter_base import AdapterBases
from model_registry.adapter_files import AdapterFiles
from model_registry.blobs import kept_digest
from model_registry.config import RegistryConfig
from model_registry.engine_handle import StartEngine
from model_registry.model_import import try_out_adapter
from model_registry.registration import run_blocking
from model_registry.sources.found_adapter import FoundAdapter
from model_registry.verification import Verified, check_digests


def verify_adapter(
    adapted: AdaptedModel,
    config: RegistryConfig,
    start_engine: StartEngine | None = None,
    progress: Callable[[int, int | None], None] = lambda here, whole: None,
) -> Verified:
    """Check ``adapted`` as ``verify`` does a model; with ``start_engine`` both are loaded. Blocks. Raises nothing."""
    files = AdapterFiles.of(adapted)
    found = Verified(id=adapted.id)
    try:
        files.check_header()
        found = msgspec.structs.replace(found, header="ok")
    except NibbleError as error:
        return msgspec.structs.replace(found, header="failed", problem=error.message)
    try:
        digest = check_digests(
            [files.path],
            [kept_digest(files.path)],
            "local",
            lambda here: progress(here, files.file_bytes),
        )
        found = msgspec.structs.replace(found, digest=digest)
    except ModelLoadFailed as error:
        return msgspec.structs.replace(found, digest="failed", problem=error.message)
    if start_engine is None:
        return found
    try:
        run_blocking(try_out_adapter(adapted.model, adapted.adapter.adapter, config, start_engine))
    except NibbleError as error:
        return msgspec.structs.replace(found, load="failed", problem=error.message)
    return msgspec.structs.replace(found, load="ok")


def verify_stray(found: FoundAdapter) -> Verified:
    """The same of an adapter that is for none of the models here: whether it is one at all. Blocks. Raises nothing."""
    fault = AdapterBases().own_fault(found)
    return Verified(id=found.name, header="failed" if fault else "ok", problem=fault or "")
