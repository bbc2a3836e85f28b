"""What a request may take to arrive, over a real process and bare sockets."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.model_registry.fake_engine import write_gguf
from tests.server.nibble_process import ServerUnderTest

PATIENCE_S = 30.0
HEADERS_S, BODY_S = 0.4, 0.4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    home = tmp_path_factory.mktemp("home")
    (home / "models").mkdir()
    write_gguf(home / "models" / "alpha.gguf")
    settings: dict[str, Any] = {
        "NIBBLE_HEADER_TIMEOUT_S": str(HEADERS_S),
        "NIBBLE_BODY_TIMEOUT_S": str(BODY_S),
        "NIBBLE_MAX_HEADER_BYTES": "4096",
    }
    with ServerUnderTest(home, **settings) as running:
        running.wait_until_loaded()
        yield running


@contextmanager
def connected(server: ServerUnderTest) -> Iterator[socket.socket]:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=PATIENCE_S) as made:
        yield made


def read_to_end(connection: socket.socket) -> bytes:
    """Until the server closes, politely or not."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def code_of(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return int(head.split()[1]), error["code"]


def drip(connection: socket.socket, byte: bytes) -> bytes:
    """Send a byte every so often until the server has had enough; what it said."""
    connection.settimeout(HEADERS_S / 8)
    for _ in range(int(PATIENCE_S / (HEADERS_S / 8))):
        try:
            connection.sendall(byte)
            if received := connection.recv(65536):
                connection.settimeout(PATIENCE_S)
                return received + read_to_end(connection)
            return b""
        except TimeoutError:
            continue
        except OSError:
            return b""
    raise AssertionError("the server never had enough")


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nhost: loc", b"POST /v1/models HTTP/1.1\r\n"])
def test_headers_that_do_not_come(server: ServerUnderTest, sent: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(sent)
        answer = read_to_end(connection)
    # Nothing was asked on a connection without a byte, so nothing is answered.
    assert (code_of(answer) if sent else answer) == ((408, "header_timeout") if sent else b"")


@pytest.mark.parametrize(
    ("begin", "byte"),
    [
        (b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-slow: ", b"a"),
        (b"GET /", b"a"),
        (b"", b"\r\n"),
    ],
    ids=["header", "path", "empty lines"],
)
def test_headers_that_drip(server: ServerUnderTest, begin: bytes, byte: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(begin)
        answer = drip(connection, byte)
    assert not answer or code_of(answer) == (408, "header_timeout")


def test_empty_lines_after_an_answer_hold_no_connection(server: ServerUnderTest) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b" 200 " in connection.recv(65536)
        drip(connection, b"\r\n")


def test_a_body_that_drips(server: ServerUnderTest) -> None:
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"content-length: 100000\r\n\r\n"
    )
    with connected(server) as connection:
        connection.sendall(head)
        answer = drip(connection, b" ")
    assert b" 408 " in answer.partition(b"\r\n")[0]
    assert b'"body_timeout"' in answer


@pytest.mark.parametrize(
    "lines",
    [
        b"x-long: " + b"a" * 5000,
        b"\r\n".join(b"x-%d: aaaaaaaaaa" % number for number in range(400)),
        b"x-endless: " + b"a" * 2_000_000,
    ],
    ids=["one", "many", "endless"],
)
@pytest.mark.parametrize("is_whole", [True, False])
def test_headers_over_the_limit(server: ServerUnderTest, lines: bytes, is_whole: bool) -> None:
    message = b"GET /health HTTP/1.1\r\nhost: localhost\r\n" + lines + (b"\r\n\r\n" if is_whole else b"")
    with connected(server) as connection:
        try:
            connection.sendall(message)
        except OSError:
            return  # closed before all of it was sent
        answer = read_to_end(connection)
    # The kernel may drop the answer to a client that is still sending.
    assert not answer or code_of(answer) == (431, "headers_too_large")


def test_headers_over_the_limit_are_told(server: ServerUnderTest) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /" + b"a" * 4200 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert code_of(read_to_end(connection)) == (431, "headers_too_large")


def flood(connection: socket.socket) -> None:
    """Send until the server closes; fails if it takes a hundred megabytes."""
    for _ in range(10_000):
        try:
            connection.sendall(b"a" * 10_000)
        except OSError:
            return
    raise AssertionError("the server never had enough")


def test_endless_trailers(server: ServerUnderTest) -> None:
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nx-trailer: "
    )
    with connected(server) as connection:
        connection.sendall(head)
        flood(connection)


def test_trailers_are_no_headers(server: ServerUnderTest) -> None:
    """Found by the fuzzer: uvicorn adds them to the headers of the request, limits and proxies notwithstanding."""
    message = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\ncontent-type: application/json\r\n\r\n"
    )
    with connected(server) as connection:
        connection.sendall(message)
        assert code_of(read_to_end(connection))[0] == 415, "a body whose type only a trailer tells"


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"\xff" * 100])
def test_what_is_no_http(server: ServerUnderTest, sent: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(sent)
        assert code_of(read_to_end(connection)) == (400, "invalid_http")


def test_a_large_body_within_its_time_and_the_next_request_are_served(server: ServerUnderTest) -> None:
    body = json.dumps({"model": "alpha", "messages": [{"role": "user", "content": "a " * 100_000}]}).encode()
    message = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    )
    with connected(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b" 200 " in connection.recv(65536)
        connection.sendall(message + body)
        assert b" 200 " in read_to_end(connection).partition(b"\r\n")[0]
    assert server.status("/health") == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/models", 200), ("/nothing", 404), ("/v1/models/nothing", 404), ("/v1/completions", 405)],
)
def test_head_has_no_content_and_the_next_request_is_served(
    server: ServerUnderTest, path: str, status: int
) -> None:
    asked = "".join(
        f"{method} {where} HTTP/1.1\r\nhost: localhost\r\nconnection: {then}\r\n\r\n"
        for method, where, then in (("HEAD", path, "keep-alive"), ("HEAD", "/ready", "close"))
    )
    with connected(server) as connection:
        connection.sendall(asked.encode())
        first, second, rest = read_to_end(connection).split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 %d " % status)
    assert re.search(rb"\ncontent-length: [1-9]", first), "of what GET would send"
    assert second.startswith(b"HTTP/1.1 200 ")
    assert rest == b""


def test_head_of_another_host_is_refused_without_content(server: ServerUnderTest) -> None:
    with connected(server) as connection:
        connection.sendall(b"HEAD /health HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n")
        head, rest = read_to_end(connection).split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 ")
    assert rest == b""
