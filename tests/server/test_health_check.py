"""``nibble health``, against a server that lives, one that loads, one that is no server of ours, and none."""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from server.health_check import check_health, url_for
from tests.server.nibble_process import ServerUnderTest, run_nibble


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("[::]", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("[::1]", "http://[::1]:8000"),
        ("llm.example.org", "http://llm.example.org:8000"),
    ],
)
def test_where_a_server_is_reached_from_its_own_machine(host: str, url: str) -> None:
    assert url_for(host, 8000) == url


def test_a_server_that_is_well(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with ServerUnderTest(tmp_path) as server:
        server.wait_until_loaded()
        port = server.url.rpartition(":")[2]
        for arguments in (("--url", server.url), ("--url", server.url, "--ready")):
            result = run_nibble(tmp_path, "health", *arguments)
            assert (result.returncode, result.stderr) == (0, "")
        result = run_nibble(tmp_path, "health", NIBBLE_PORT=port)
        assert (result.returncode, result.stdout) == (0, "ok\n")


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = run_nibble(tmp_path, "health", NIBBLE_PORT=str(port))
    assert result.returncode == 1
    assert "does not answer" in result.stderr
    assert result.stderr.count("\n") == 1


def test_something_else_at_the_port(tmp_path: Path) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        is_well, line = check_health(f"http://127.0.0.1:{other.server_port}", ready=True, timeout_s=5)
        other.shutdown()
    assert not is_well
    assert line.endswith("/ready answers 503: something that is not this server")
