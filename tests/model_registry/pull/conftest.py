from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.fixtures.tiny_gguf import write_tiny
from tests.model_registry.pull.file_server import (
    FileServer,
    file_server,
)
from tests.model_registry.pull.house import House


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.bin").read_bytes()


@pytest.fixture
def server(tiny: bytes) -> Generator[FileServer]:
    with file_server(tiny) as started:
        yield started


@pytest.fixture
def only_loopback(monkeypatch: pytest.MonkeyPatch, server: FileServer) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("HF_ENDPOINT", server.url.rpartition("/")[0])
    monkeypatch.setenv("PIP_INDEX_URL", server.url.rpartition("/")[0])
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home")
