"""A models directory with tiny models, and a quantiser over it that is real to the last process."""

from __future__ import annotations

from pathlib import Path

from engine.config import EngineConfig
from engine.disk.file_system import FileSystem
from engine.engine import Engine
from model_registry.blobs import FOLDER, Blobs
from model_registry.config import RegistryConfig
from model_registry.engine_handle import StartEngine
from model_registry.model import Model
from model_registry.quantize.quantizer import Quantizer
from model_registry.shelf import Shelf
from model_registry.sources.directory import DirectorySource
from model_registry.store.model_store import ModelStore
from model_registry.tune.tuner import Tuner


class Shop:
    """``models`` is the directory; ``shelf`` is filled anew by ``look``."""

    def __init__(self, root: Path, *, system: FileSystem | None = None) -> None:
        self.models = root / "models"
        self.models.mkdir(exist_ok=True)
        self.store = ModelStore.in_directory(root)
        self.config = RegistryConfig(
            data_dir=root,
            models_dir=self.models,
            engine=EngineConfig(
                model_id="",
                model_path="",
                threads=1,
                kv_budget_bytes=64 << 20,
                # A trial could find the one faster for one file and the other for the next, and bits are compared.
                flash_attention="on",
            ),
        )
        self._system = system
        self.look()

    def look(self, start_engine: StartEngine = Engine.start) -> None:
        self.shelf = Shelf([DirectorySource(self.models)], self.store, self.config)
        if any(self.models.glob("*.gguf")):
            self.shelf.fill()
        self.quantizer = Quantizer(
            self.shelf, self.store, self.config, self.models, start_engine, system=self._system
        )
        self.tuner = Tuner(self.shelf, self.store, self.config, self.quantizer)

    def model(self, name: str) -> Model:
        return self.shelf.named(name)

    def files(self) -> list[str]:
        """Every name in the directory, hidden ones too. No blob is without a name."""
        assert Blobs(self.models).strays() == []
        return sorted(path.name for path in self.models.iterdir() if path.name != FOLDER)
