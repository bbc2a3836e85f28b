"""Trying a model out before it is relied on: a worker of its own loads it and decodes a token, and ends."""

from __future__ import annotations

import asyncio
import hashlib

import msgspec

from engine.adapter import Adapter
from engine.config import EngineConfig
from model_registry.blobs import kept_digest
from model_registry.config import RegistryConfig
from model_registry.engine_handle import StartEngine
from model_registry.file_digest import file_digest
from model_registry.model import Model
from model_registry.sources.file_look import facts_told
from model_registry.store.model_record import FileRecord

_CONTEXT = 64
"""Tokens: enough to compute one, and next to no memory."""


async def try_out(
    model: Model, config: RegistryConfig, start_engine: StartEngine, *, source: str = ""
) -> FileRecord:
    """What the worker found out about ``model``. A file that is damaged or hostile ends that worker and nothing else.

    ``source`` is where it was fetched from. Raises ModelLoadFailed and InsufficientMemory, which name the mend.
    """
    await asyncio.to_thread(model.source.check, model.found)
    engine = await start_engine(trial_config(model, config))
    facts = engine.facts
    await engine.stop()
    files = model.files()
    header = await asyncio.to_thread(facts_told, files)
    return FileRecord(
        path=str(model.found.path),
        file_bytes=model.found.file_bytes,
        mtime_ns=model.found.changed_ns,
        sha256=await asyncio.to_thread(_sha256, model) if len(files) == 1 else None,
        source=source,
        # llama.cpp has words of its own for it ("llama 1B Q4_K - Medium"), by which nobody could ask for it.
        quantisation=header.quantisation if header else "",
        architecture=facts.architecture,
        parameters=facts.parameters,
        context=facts.context_trained,
        template_sha256=hashlib.sha256(facts.chat_template.encode()).hexdigest()
        if facts.chat_template
        else "",
        capabilities=facts.capabilities,
    )


async def try_out_adapter(
    model: Model, adapter: Adapter, config: RegistryConfig, start_engine: StartEngine
) -> None:
    """A worker of its own loads both and decodes a token with them. Raises ModelLoadFailed and InsufficientMemory."""
    small = msgspec.structs.replace(trial_config(model, config), adapters=(adapter,))
    engine = await start_engine(small)
    await engine.stop()


def trial_config(model: Model, config: RegistryConfig) -> EngineConfig:
    """How to load ``model`` for one token, with nothing beside it."""
    return msgspec.structs.replace(
        model.engine_config(config),
        context=_CONTEXT,
        parallel=1,
        kv_budget_bytes=None,
        prefix_memory_bytes=0,
        prefix_disk_bytes=0,
        draft_model_path=None,
        adapters=(),
    )


def _sha256(model: Model) -> str:
    # What lies under its digest was read to its end when it came; whether it still is that, ``verify`` tells.
    return kept_digest(model.found.path) or file_digest(model.found.path)
