from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from server.doctor.places import check_data_directory, check_disk, check_port
from server.settings import Settings
from tests.model_registry.fake_engine import write_gguf
from tests.server.nibble_process import ServerUnderTest, free_port


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, port=free_port())


def test_disk(settings: Settings) -> None:
    assert check_disk(settings, 100 * 10**9).status == "ok"
    found = check_disk(settings, 10**9)
    assert found.status == "warn"
    assert "nibble prune" in found.mend
    assert check_disk(settings).check == "disk"


def test_what_lets_in_is_for_its_owner_alone(settings: Settings) -> None:
    assert check_data_directory(settings).status == "ok"
    keys = settings.data_dir / "keys.sqlite3"
    keys.write_bytes(b"")
    keys.chmod(0o600)
    assert check_data_directory(settings).status == "ok"
    keys.chmod(0o640)
    found = check_data_directory(settings)
    assert (found.status, found.mend) == ("warn", f"chmod 600 {keys}")


def test_a_directory_that_everybody_may_write_to_is_told(settings: Settings) -> None:
    settings.data_dir.chmod(0o777)
    found = check_data_directory(settings)
    assert (found.status, found.mend) == ("warn", f"chmod o-w {settings.data_dir}")


def test_a_key_file_that_others_may_read_is_told(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text("")
    file.chmod(0o644)
    found = check_data_directory(Settings(data_dir=tmp_path / "data", api_key_file=file))
    assert (found.status, found.mend) == ("warn", f"chmod 600 {file}")


def test_a_directory_that_cannot_be_written_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    # Root may write everywhere, and tests may be root's.
    monkeypatch.setattr(os, "access", lambda path, mode: path != locked)
    found = check_data_directory(Settings(data_dir=locked / "data"))
    assert found.status == "fail"
    assert f"the right to write to {locked}" in found.mend


def test_a_port_is_free_or_taken_or_ours(tmp_path: Path, settings: Settings) -> None:
    assert check_port(settings).status == "ok"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # Nobody accepts there, so nobody is asked for long.
        taken.close()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        found = check_port(Settings(data_dir=tmp_path, port=port))
    assert found.status == "fail"
    assert f"port {port} on 127.0.0.1 is in use" in found.text
    assert "--port" in found.mend
    (tmp_path / "models").mkdir()
    write_gguf(tmp_path / "models" / "a.gguf")
    with ServerUnderTest(tmp_path) as server:
        found = check_port(Settings(data_dir=tmp_path, port=int(server.url.rpartition(":")[2])))
        assert (found.status, "answers at" in found.text) == ("ok", True)
    assert check_port(Settings(data_dir=tmp_path, host="203.0.113.1")).status == "fail"
