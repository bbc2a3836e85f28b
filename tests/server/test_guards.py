"""Hosts, origins and content types as they come over bare sockets, where no client writes the headers for one."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.model_registry.fake_engine import write_gguf
from tests.server.nibble_process import ServerUnderTest
from tests.server.test_http_protocol import PATIENCE_S, read_to_end


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    home = tmp_path_factory.mktemp("home")
    (home / "models").mkdir()
    write_gguf(home / "models" / "alpha.gguf")
    settings: dict[str, Any] = {
        "NIBBLE_ALLOWED_HOSTS": "nibble.example.com",
        "NIBBLE_ALLOWED_ORIGINS": "https://app.example.com",
    }
    with ServerUnderTest(home, **settings) as running:
        running.wait_until_loaded()
        yield running


BODY = json.dumps({"model": "alpha", "prompt": "Once", "max_tokens": 1}).encode()
HOST = ("host: localhost",)
JSON = ("content-type: application/json",)


def ask(server: ServerUnderTest, *lines: str, path: str = "/v1/completions") -> tuple[int, str, bytes]:
    """Status, error code and head of the answer to a POST with ``lines`` for headers."""
    address = urlsplit(server.url)
    message = "\r\n".join(
        (f"POST {path} HTTP/1.1", *lines, f"content-length: {len(BODY)}", "connection: close", "", "")
    )
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=PATIENCE_S) as made:
        made.sendall(message.encode("latin-1") + BODY)
        head, _, body = read_to_end(made).partition(b"\r\n\r\n")
    answer = json.loads(body)
    return int(head.split()[1]), answer.get("error", {}).get("code", ""), head


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "127.0.0.1",
        "127.9.9.9:1",
        "[::1]",
        "[::1]:80",
        "nibble.example.com:443",
    ],
)
def test_hosts_of_ours(server: ServerUnderTest, host: str) -> None:
    assert ask(server, f"host: {host}", *JSON)[0] == 200


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("host:",),
        ("host: evil.example.com",),
        ("host: localhost.evil.example.com",),
        ("host: evil.example.com:8000",),
        ("host: nibble.example.com.",),
        ("host: 169.254.169.254",),
        ("host: 10.0.0.1",),
        ("host: [2001:db8::1]",),
        ("host: 2130706433",),
        ("host: localhost@evil.example.com",),
        ("host: \xe9",),
        ("host: evil.example.com", "host: localhost"),
        ("host: localhost", "host: evil.example.com"),
        ("host: localhost:8000", "host: localhost"),
        ("host: evil.example.com", "x-forwarded-host: localhost"),
    ],
    ids=str,
)
def test_hosts_of_somebody_else(server: ServerUnderTest, lines: tuple[str, ...]) -> None:
    status, code, _ = ask(server, *lines, *JSON)
    assert (status, code) in {(403, "host_not_allowed"), (400, "invalid_http")}


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://app.example.com", 200),
        ("HTTPS://APP.example.com", 200),
        ("http://localhost", 200),
        ("http://app.example.com", 403),
        ("https://app.example.com:444", 403),
        ("https://app.example.com.evil.com", 403),
        ("https://evil.com", 403),
        ("http://localhost:9", 403),
        ("null", 403),
        ("", 403),
        ("file://", 403),
    ],
)
def test_origins(server: ServerUnderTest, origin: str, status: int) -> None:
    seen, code, head = ask(server, *HOST, *JSON, f"origin: {origin}")
    assert (seen, code) == (status, "" if status == 200 else "origin_not_allowed")
    allows = b"access-control-allow-origin" in head.lower()
    # Browsers send an origin in lower case, and so it was allowed.
    assert allows is (origin == "https://app.example.com")
    assert b"access-control-allow-origin: *" not in head.lower()


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        (None, 415),
        ("", 415),
        ("text/plain", 415),
        ("text/plain; x=application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonx", 415),
    ],
)
def test_content_types(server: ServerUnderTest, kind: str | None, status: int) -> None:
    """The kinds that a page may send to anybody without being asked are none that is read."""
    lines = () if kind is None else (f"content-type: {kind}",)
    seen, code, _ = ask(server, *HOST, *lines)
    assert (seen, code) == (status, "" if status == 200 else "unsupported_media_type")
