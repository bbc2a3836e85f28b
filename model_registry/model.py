"""One model's place in the registry."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import msgspec

from engine.config import EngineConfig, ModelFacts
from engine.errors import ModelLoadFailed, NibbleError
from model_registry.card import ModelCard
from model_registry.engine_handle import EngineHandle
from model_registry.figures import ModelFigures
from model_registry.fingerprint import fingerprint
from model_registry.sources.found_model import FoundModel, ModelSource
from model_registry.state import ModelState, check_transition


@dataclass(slots=True)
class Model:
    """What the registry keeps of one model. Owned by the registry, and with it by the event loop."""

    found: FoundModel
    source: ModelSource
    state: ModelState = "registered"
    failure: NibbleError | None = None
    failed_at: float | None = None
    """When a load failed, on the registry's clock; None if the failure was seen at the scan."""
    load: asyncio.Task[None] | None = None
    engine: EngineHandle | None = None
    facts: ModelFacts | None = None
    load_s: float | None = None
    leases: int = 0
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        self.fingerprint = fingerprint(self.found.path, self.found.file_bytes)
        if self.found.failure is not None:
            self.failure = ModelLoadFailed(self.found.failure)
            self.become("failed")

    @property
    def id(self) -> str:
        return self.found.id

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
            self.failure, self.failed_at, self.engine = self.engine.failure, now, None
            self.become("failed")

    def needs_load(self, now: float, retry_pause_s: float) -> bool:
        """Nothing is loaded or loading, and no failure is fresh enough to be the answer."""
        if self.state == "failed":
            return self.failed_at is None or now - self.failed_at >= retry_pause_s
        return self.state in ("registered", "unloaded")

    def engine_config(self, template: EngineConfig) -> EngineConfig:
        return msgspec.structs.replace(template, model_id=self.id, model_path=str(self.found.path))

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
            stats=self.engine.stats if self.engine else None,
            restarts=self.engine.restarts if self.engine else 0,
            load_s=self.load_s,
        )
