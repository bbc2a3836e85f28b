"""A data directory, and pulls into it with an engine that does nothing."""

from __future__ import annotations

import threading
from pathlib import Path

from engine.config import EngineConfig
from model_registry.blobs import FOLDER
from model_registry.config import RegistryConfig
from model_registry.pull.pull import pull_model
from model_registry.registration import Registered
from model_registry.store.model_store import ModelStore
from tests.model_registry.fake_engine import FakeEngine


class House:
    def __init__(self, home: Path) -> None:
        self.config = RegistryConfig(data_dir=home)
        self.models = home / "models"
        self.store = ModelStore.in_directory(home)
        self.cancel = threading.Event()
        self.said: list[str] = []
        self.seen: list[tuple[int, int | None]] = []
        self.started: list[EngineConfig] = []
        self.failure: Exception | None = None

    async def start(self, config: EngineConfig) -> FakeEngine:
        self.started.append(config)
        if self.failure is not None:
            raise self.failure
        return FakeEngine(config)

    def pull(self, what: str, *, force: bool = False, limit: int = 1 << 40) -> Registered:
        return pull_model(
            what,
            self.config,
            self.start,
            progress=lambda here, whole: self.seen.append((here, whole)),
            say=self.said.append,
            cancel=self.cancel,
            force=force,
            limit=lambda: limit,
        )

    def names(self) -> list[str]:
        return sorted(
            path.name for path in self.models.iterdir() if not path.name.endswith((".lock", FOLDER))
        )
