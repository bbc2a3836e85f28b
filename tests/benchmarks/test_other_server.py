from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from benchmarks.other_server import OtherServer


class _Models(BaseHTTPRequestHandler):
    body = b'{"data": [{"id": "a-model"}, {"id": "another"}]}'

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/v1/models" else 404)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Models) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_is_told_by_a_name_or_by_its_place(url: str) -> None:
    assert OtherServer.of(f"peer={url}/v1") == OtherServer("peer", url, "a-model")
    assert OtherServer.of(url).name == url.removeprefix("http://")


def test_what_is_no_server_is_refused_with_the_reason(url: str) -> None:
    with pytest.raises(ValueError, match="NAME=http://HOST:PORT"):
        OtherServer.of("peer")
    with pytest.raises(ValueError, match="gives no model"):
        OtherServer.of("peer=http://127.0.0.1:1")
