from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from server.service_manager import notify
from tests.server.nibble_process import ServerUnderTest


@pytest.fixture
def manager(tmp_path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.settimeout(60)
    listener.bind(str(tmp_path / "notify"))
    return listener


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "vsock:2:1234")
    notify("READY=1")


def test_a_server_tells_when_it_is_ready_reloads_and_stops(tmp_path: Path, manager: socket.socket) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with manager, ServerUnderTest(data, NOTIFY_SOCKET=str(tmp_path / "notify")) as server:
        assert manager.recv(1024) == b"READY=1"
        assert server.status("/ready") == 200
        server.signal(signal.SIGHUP)
        began, _, since = manager.recv(1024).decode().partition("\n")
        assert began == "RELOADING=1"
        assert 0 < int(since.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
        assert manager.recv(1024) == b"READY=1"
        server.signal(signal.SIGTERM)
        assert manager.recv(1024) == b"STOPPING=1"
        assert server.end()[0] == 0
