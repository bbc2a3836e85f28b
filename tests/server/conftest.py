from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.model_registry.fake_engine import write_gguf


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with the model ``alpha``, and the ``gate`` that an echo engine can be told to wait at."""
    (tmp_path / "models").mkdir()
    write_gguf(tmp_path / "models" / "alpha.gguf")
    os.mkfifo(tmp_path / "gate")
    return tmp_path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a data directory of the test's own, and no settings from outside."""
    for name in [name for name in os.environ if name.startswith("NIBBLE_")]:
        monkeypatch.delenv(name)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("NIBBLE_DATA_DIR", str(tmp_path / "data"))
    return work
