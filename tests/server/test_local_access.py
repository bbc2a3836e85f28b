"""The key of a server's own user: told to him alone, for as long as that server lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from routes.caller import SCOPES
from server.keys.api_key import digest_of
from server.local_access import DIRECTORY, announced, local_servers
from tests.server.nibble_process import ROOT

URL = "http://127.0.0.1:8000"


def test_a_server_is_known_while_it_runs(tmp_path: Path) -> None:
    assert local_servers(tmp_path) == []
    with announced(tmp_path, URL) as key, announced(tmp_path, "http://127.0.0.1:9000"):
        servers = {server.url: server for server in local_servers(tmp_path)}
        assert servers.keys() == {URL, "http://127.0.0.1:9000"}
        assert servers[URL].pid == os.getpid()
        assert digest_of(servers[URL].key) == key.digest
        assert key.scopes == set(SCOPES)
        assert len({server.key for server in servers.values()}) == 2
    assert local_servers(tmp_path) == []
    assert list((tmp_path / DIRECTORY).iterdir()) == []


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with announced(tmp_path, URL):
            (path,) = (tmp_path / DIRECTORY).iterdir()
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.parent.stat().st_mode & 0o777 == 0o700
            path.chmod(0o644)
            assert local_servers(tmp_path) == [], "one that others may have read is not used"
    finally:
        os.umask(old)


def test_what_a_killed_server_leaves_is_none(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom server.local_access import announced\n"
        f"with announced(Path(sys.argv[1]), {URL!r}):\n    print('up', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert [server.pid for server in local_servers(tmp_path)] == [process.pid]
        process.send_signal(signal.SIGKILL)
        process.wait()
        (left,) = (tmp_path / DIRECTORY).iterdir()
        assert local_servers(tmp_path) == []
    with announced(tmp_path, URL):
        assert not left.exists(), "the next server tidies up"


@pytest.mark.parametrize("content", [b"", b"{}", b'{"url": 1}', b"\xff" * 100, b"[" * 5000])
def test_a_file_that_is_none_is_passed_over(tmp_path: Path, content: bytes) -> None:
    with announced(tmp_path, URL):
        (path,) = (tmp_path / DIRECTORY).iterdir()
        path.write_bytes(content)
        assert local_servers(tmp_path) == []
        (tmp_path / DIRECTORY / "link.json").symlink_to("/etc/passwd")
        assert local_servers(tmp_path) == []


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / DIRECTORY).write_text("in the way")
    with pytest.raises(FileExistsError), announced(tmp_path, URL):
        pass
