from __future__ import annotations

from pathlib import Path

import pytest

from tests.model_registry.fake_engine import write_gguf


@pytest.fixture
def models(tmp_path: Path) -> Path:
    directory = tmp_path / "models"
    directory.mkdir()
    for name in ("alpha", "Beta", "gamma"):
        write_gguf(directory / f"{name}.gguf")
    return directory
