"""One model's place in the registry."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from engine.config import EngineConfig, EngineStats, ModelFacts
from engine.errors import ModelLoadFailed, NibbleError
from model_registry.blobs import kept_digest
from model_registry.card import ModelCard
from model_registry.config import RegistryConfig
from model_registry.engine_handle import EngineHandle
from model_registry.figures import ModelFigures
from model_registry.fingerprint import fingerprint
from model_registry.model_settings import ModelSettings
from model_registry.sampling_defaults import SamplingDefaults
from model_registry.settings_tables import table_of
from model_registry.sources.found_model import FoundModel, ModelSource
from model_registry.state import ModelState, check_transition
from model_registry.store.model_record import FileRecord, ModelRecord
from model_registry.store.twin_record import TwinRecord

_FIRST_USE_S = 60.0


@dataclass(slots=True)
class Model:
    """What the registry keeps of one model. Owned by the registry, and with it by the event loop."""

    found: FoundModel
    source: ModelSource
    record: ModelRecord | None = None
    """What the store knows of it."""
    adapter_bytes: Mapping[str, int] = field(default_factory=dict)
    """File sizes of the adapters that it is to be served with, by name. They are read into memory, not mapped."""
    original: Model | None = None
    """The model that this one, its twin, serves in the place of."""
    state: ModelState = "registered"
    failure: NibbleError | None = None
    failed_at: float | None = None
    """When a load failed, on the registry's clock; None if the failure was seen at the scan."""
    load: asyncio.Task[None] | None = None
    unload: asyncio.Task[None] | None = None
    engine: EngineHandle | None = None
    facts: ModelFacts | None = None
    load_s: float | None = None
    loaded_with: EngineConfig | None = None
    """What its engine was started with."""
    warning: str | None = None
    """What is wrong with how it is loaded."""
    leases: int = 0
    waiting: int = 0
    """Requests that wait for it to be loaded."""
    used_at: float = 0.0
    """When it was last in use, on the registry's clock."""
    was_used: bool = False
    """Whether a request has held it since it was loaded."""
    past: EngineStats | None = None
    """Totals of the engines that it has had; None before the first was let go."""
    past_restarts: int = 0
    past_stalls: int = 0
    is_retired: bool = False
    """Its file is gone or another: it serves who holds it, and nobody else."""
    rested: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever somebody lets go of it."""
    fingerprint: str = field(init=False)
    _merged: tuple[tuple[object, ...], ModelSettings, SamplingDefaults] | None = None
    """Its settings, behind what they were made of: each request asks for them."""

    def __post_init__(self) -> None:
        self.fingerprint = fingerprint(self.files(), self.found.file_bytes)
        if self.found.failure is not None:
            self.failure = ModelLoadFailed(self.found.failure)
            self.become("failed")

    @property
    def id(self) -> str:
        return self.found.id

    @property
    def aliases(self) -> tuple[str, ...]:
        return self.record.aliases if self.record else ()

    def files(self) -> tuple[Path, ...]:
        """All of its files that are there, the one to load first."""
        try:
            return self.source.files(self.found)
        except ValueError:  # they are not ours to delete, and one is all that such a source has
            return (self.found.path,)

    def digests(self) -> tuple[str | None, ...]:
        """What the SHA-256 of each of ``files`` must be; None where nobody knows."""
        files = self.files()
        kept = tuple(map(kept_digest, files))
        if len(files) != 1:
            return kept
        record = self.file_record
        return (self.found.sha256 or kept[0] or (record.sha256 if record else None),)

    @property
    def file_record(self) -> FileRecord | None:
        """What an import found out about its file, if it is still the same."""
        file = self.record.file if self.record else None
        found = self.found
        return file if file is not None and file.is_of(found.file_bytes, found.changed_ns) else None

    @property
    def twin(self) -> TwinRecord | None:
        """The model that is to serve its requests in its place."""
        return self.record.twin if self.record else None

    @property
    def is_idle(self) -> bool:
        """Loaded, and nobody holds it or waits for it."""
        return self.state == "ready" and not self.leases and not self.waiting

    @property
    def is_dormant(self) -> bool:
        """It has served, was unloaded since, and the next request loads it again."""
        return self.state == "unloaded" and self.load_s is not None

    @property
    def is_serving(self) -> bool:
        return self.state == "ready" and self.engine is not None and self.engine.is_ready

    def become(self, state: ModelState) -> None:
        """Change the state. Raises InternalError if the change is not a legal one."""
        check_transition(self.id, self.state, state)
        self.state = state

    def notice_death(self, now: float) -> None:
        """An engine that has given up leaves a model that failed, to be loaded again as after any failure."""
        if self.state == "ready" and self.engine is not None and self.engine.failure is not None:
            self.failure, self.failed_at = self.engine.failure, now
            self.let_go()
            self.become("failed")

    def let_go(self) -> None:
        """Forget the engine, which has ended, and keep what it has counted."""
        if self.engine is not None:
            self.past = EngineStats().after(self._stats(self.engine))
            self.past_restarts += self.engine.restarts
            self.past_stalls += self.engine.stalls
            self.engine = None

    def _stats(self, engine: EngineHandle) -> EngineStats:
        return engine.stats if self.past is None else engine.stats.after(self.past)

    def needs_load(self, now: float, retry_pause_s: float) -> bool:
        """Nothing is loaded or loading, and no failure is fresh enough to be the answer."""
        if self.state == "failed":
            return self.failed_at is None or now - self.failed_at >= retry_pause_s
        return self.state in ("registered", "unloaded")

    def idle_limit_s(self, config: RegistryConfig) -> float | None:
        """Seconds without use after which it is to be unloaded; None keeps it.

        One that nobody has used since it was loaded gets a minute at least: whoever wanted it may be coming.
        """
        settings = self.settings(config)
        limit_s = config.keep_alive_s if settings.keep_alive_s is None else settings.keep_alive_s
        if settings.pin or limit_s is None:
            return None
        return limit_s if self.was_used else max(limit_s, _FIRST_USE_S)

    def engine_config(self, config: RegistryConfig) -> EngineConfig:
        """The template, with what is this model's own: the operator's file says more than the store."""
        whole = msgspec.structs.replace(
            config.engine,
            model_id=self.id,
            model_path=str(self.found.path),
            embeds=not self._names.isdisjoint(config.embed),
            is_matryoshka=not self._names.isdisjoint(config.matryoshka),
            adapters=tuple(each.adapter for each in config.adapters if each.model in self._names),
        )
        return self.settings(config).applied_to(whole)

    def settings_in_file(self, config: RegistryConfig) -> ModelSettings:
        return table_of(config.models, self.id, self.aliases)

    def stored_settings(self) -> ModelSettings:
        return self.record.settings if self.record else ModelSettings()

    def settings(self, config: RegistryConfig) -> ModelSettings:
        """Its own, and where those say nothing, the ones of the model that it serves in the place of."""
        return self._settings(config)[0]

    def sampling(self, config: RegistryConfig) -> SamplingDefaults:
        """The part of its settings that a request's fields say more than."""
        return self._settings(config)[1]

    def _settings(self, config: RegistryConfig) -> tuple[ModelSettings, SamplingDefaults]:
        original = self.original
        made_of = (config.models, self.record, original, original.record if original else None)
        if (kept := self._merged) is None or not all(map(operator.is_, kept[0], made_of)):
            settings = self.own_settings(config)
            if original is not None:
                settings = settings.over(original.own_settings(config))
            self._merged = kept = (made_of, settings, settings.sampling)
        return kept[1], kept[2]

    def own_settings(self, config: RegistryConfig) -> ModelSettings:
        """Those that are said of it by its own names."""
        return self.settings_in_file(config).over(self.stored_settings())

    @property
    def _names(self) -> set[str]:
        return {self.id} if self.original is None else {self.id, self.original.id}

    def card(self) -> ModelCard:
        return ModelCard(
            id=self.id,
            created=self.found.created,
            owned_by=self.found.owned_by,
            path=str(self.found.path),
            file_bytes=self.found.file_bytes,
            state=self.state,
            failure=self.failure.message if self.failure else None,
            facts=self.facts,
            fingerprint=self.fingerprint,
        )

    def figures(self) -> ModelFigures:
        return ModelFigures(
            id=self.id,
            state=self.state,
            stats=self._stats(self.engine) if self.engine else self.past,
            is_loaded=self.engine is not None,
            restarts=self.past_restarts + (self.engine.restarts if self.engine else 0),
            stalls=self.past_stalls + (self.engine.stalls if self.engine else 0),
            load_s=self.load_s,
        )
