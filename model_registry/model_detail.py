"""All that the registry knows of one model, for whoever runs the server."""

from __future__ import annotations

import msgspec

from engine.config import EngineStats, ModelFacts
from model_registry.config import RegistryConfig
from model_registry.file_facts import FileFacts, file_facts
from model_registry.model import Model
from model_registry.model_settings import ModelSettings
from model_registry.state import ModelState
from model_registry.store.twin_record import TwinRecord


class ModelMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes, by estimate and as measured."""

    estimated_bytes: int
    """Weights, KV cache and buffers, as counted before a load and against ``memory_budget``; while it is loaded, with
    the KV cache that it really made."""
    resident_bytes: int | None = None
    """In RAM now, of its worker and what that started; null while it is not loaded, and where nobody tells (macOS)."""
    anonymous_bytes: int | None = None
    """The part of it that is no mapped file, and that only unloading gives back."""


class ModelUse(msgspec.Struct, frozen=True, kw_only=True):
    """Who uses a loaded model, and how it does. Totals count since it was loaded."""

    leases: int
    """Requests that hold it."""
    waiting: int
    """Requests that wait for it to be loaded."""
    running: int
    """Answers that it computes now."""
    queued: int
    """Answers that wait for a place."""
    idle_s: float | None
    """Seconds since its last use, or since it was loaded; null while it is in use."""
    keep_alive_left_s: float | None
    """Seconds until it is unloaded if nobody uses it; null where it stays."""
    kv_tokens: int
    """Tokens of running answers in the KV cache, of ``kv_capacity_tokens``."""
    kv_capacity_tokens: int
    prompt_tokens_total: int
    generation_tokens_total: int
    tokens_per_s: float | None
    """Generated tokens for each second of computing, all answers together and the reading of prompts included; null
    until it has computed anything."""
    restarts: int
    """Deaths of its worker that it came back from."""


class ModelDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of one model; a newer one may already exist when it is read."""

    id: str
    state: ModelState
    failure: str | None
    """Why it is ``failed``, and what mends it."""
    warning: str | None
    """What is wrong with how it is loaded, and what mends that."""
    aliases: tuple[str, ...]
    adapters: tuple[str, ...]
    """Ids of this model with a LoRA adapter."""
    twin: TwinRecord | None
    """What serves its requests in its place, and what that was measured to cost."""
    tags: tuple[str, ...]
    notes: str
    created: int
    """Unix seconds of the file's last change."""
    owned_by: str
    path: str
    files: tuple[str, ...]
    """All of its files, the one to load first."""
    digests: tuple[str | None, ...]
    """What the SHA-256 of each must be, in hex; null where nobody knows."""
    file_bytes: int
    """All of them together."""
    fingerprint: str
    file: FileFacts
    """What its file is, as far as anybody knows."""
    settings: ModelSettings
    """Its own, as kept in the store."""
    configured: ModelSettings
    """Its own in ``nibble.toml``, which say more than those in the store."""
    is_pinned: bool
    is_outdated: bool
    """Whether it is loaded with other settings than it has now: they count from its next load."""
    facts: ModelFacts | None
    """What its worker found out and chose; null until it was loaded once."""
    load_s: float | None
    """Seconds that the last load took."""
    memory: ModelMemory
    use: ModelUse | None
    """Null while it is neither loaded nor loading."""


def detail_of(
    model: Model,
    config: RegistryConfig,
    *,
    adapters: tuple[str, ...],
    estimated_bytes: int,
    keep_alive_left_s: float | None,
    now: float,
) -> ModelDetail:
    """``now`` is on the registry's clock."""
    measured = model.engine.memory if model.engine else None
    expected = model.engine_config(config)
    with_now = (
        None
        if model.loaded_with is None
        else msgspec.structs.replace(model.loaded_with, spares_memory=expected.spares_memory)
    )
    return ModelDetail(
        id=model.id,
        state=model.state,
        failure=model.failure.message if model.failure else None,
        warning=model.warning if model.engine else None,
        aliases=model.aliases,
        adapters=adapters,
        twin=model.twin,
        tags=model.record.tags if model.record else (),
        notes=model.record.notes if model.record else "",
        created=model.found.created,
        owned_by=model.found.owned_by,
        path=str(model.found.path),
        files=tuple(map(str, model.files())),
        digests=model.digests(),
        file_bytes=model.found.file_bytes,
        fingerprint=model.fingerprint,
        file=file_facts(model),
        settings=model.stored_settings(),
        configured=model.settings_in_file(config),
        is_pinned=bool(model.settings(config).pin),
        is_outdated=model.engine is not None and with_now != expected,
        facts=model.facts,
        load_s=model.load_s,
        memory=ModelMemory(
            estimated_bytes=estimated_bytes,
            resident_bytes=measured.resident_bytes if measured else None,
            anonymous_bytes=measured.anonymous_bytes if measured else None,
        ),
        use=_use_of(model, keep_alive_left_s, now) if model.engine or model.load else None,
    )


def _use_of(model: Model, keep_alive_left_s: float | None, now: float) -> ModelUse:
    stats = model.engine.stats if model.engine else EngineStats()
    computed_s = stats.step_seconds_total.total
    return ModelUse(
        leases=model.leases,
        waiting=model.waiting,
        running=stats.running,
        queued=stats.waiting,
        idle_s=max(0.0, now - model.used_at) if model.is_idle else None,
        keep_alive_left_s=keep_alive_left_s,
        kv_tokens=stats.kv_tokens,
        kv_capacity_tokens=stats.kv_capacity_tokens,
        prompt_tokens_total=stats.prompt_tokens_total,
        generation_tokens_total=stats.generation_tokens_total,
        tokens_per_s=stats.generation_tokens_total / computed_s if computed_s else None,
        restarts=model.engine.restarts if model.engine else 0,
    )
