"""The outer layers, spoken to in raw ASGI."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.middleware import HostGuard, OriginGuard, RequestObserver, host_name, stack
from server.request_record import CURRENT

Headers = list[tuple[bytes, bytes]]


class Seen:
    """Notes what the observer tells it."""

    def __init__(self) -> None:
        self.http: list[tuple[str, str, int]] = []

    def http_finished(self, route: str, method: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.http.append((route, method, status))


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    scope["route"] = SimpleNamespace(path="/things/{thing}")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def call(
    app: ASGIApp, headers: Headers | None = None, method: str = "GET"
) -> tuple[int, Headers, bytes]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": method, "path": "/things/7", "headers": headers or []}
    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return (sent[0]["status"], sent[0]["headers"], body) if sent else (0, [], b"")


def observed(app: ASGIApp, seen: Seen | None = None) -> ASGIApp:
    return RequestObserver(app, seen or Seen())


def error_of(body: bytes) -> dict[str, str | None]:
    error: dict[str, str | None] = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize("given", [b"a", b"trace-1.2_3", b"x" * 128])
async def test_a_valid_request_id_is_kept(given: bytes) -> None:
    _, headers, _ = await call(observed(hello), [(b"x-request-id", given)])
    assert headers[:2] == [(b"a", b"b"), (b"x-request-id", given)]


async def test_every_answer_tells_its_time() -> None:
    """uvicorn's own Date header is off, because its clock would never let the process sleep."""
    before = datetime.now(UTC).replace(microsecond=0)
    _, headers, _ = await call(observed(hello))
    told = parsedate_to_datetime(dict(headers)[b"date"].decode())
    assert before <= told <= datetime.now(UTC)


@pytest.mark.parametrize("given", [b"", b"x" * 129, b"a b", b"a\tb", b"\xff", b"a/b", b"caf\xc3\xa9"])
async def test_any_other_is_replaced(given: bytes) -> None:
    _, headers, _ = await call(observed(hello), [(b"x-request-id", given)])
    made = dict(headers)[b"x-request-id"]
    assert re.fullmatch(rb"req_[0-9a-f]{24}", made)


async def test_the_id_is_known_inside_and_set_once() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        record = CURRENT.get()
        assert record is not None
        assert scope["state"]["request_id"] == record.request_id == "mine"
        headers = [(b"X-Request-Id", b"theirs")]
        await send({"type": "http.response.start", "status": 500, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    _, headers, _ = await call(observed(app), [(b"x-request-id", b"mine")])
    assert [pair for pair in headers if pair[0] == b"x-request-id"] == [(b"x-request-id", b"mine")]


async def test_figures_go_by_route_template() -> None:
    seen = Seen()
    await call(observed(hello, seen), method="POST")
    assert seen.http == [("/things/{thing}", "POST", 200)]


async def test_what_matches_no_route_has_one_name() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    seen = Seen()
    await call(observed(app, seen))
    assert seen.http == [("unmatched", "GET", 404)]


async def test_an_error_past_every_handler_is_an_answer_with_an_id() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("secret")

    seen = Seen()
    status, headers, body = await call(observed(app, seen), [(b"x-request-id", b"mine")])
    assert (status, dict(headers)[b"x-request-id"]) == (500, b"mine")
    error = error_of(body)
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "secret" not in str(error)
    assert "mine" in str(error["message"])
    assert seen.http == [("unmatched", "GET", 500)]


async def test_an_error_after_the_headers_ends_the_answer() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("late")

    status, _, body = await call(observed(app))
    assert (status, body) == (200, b"")


async def test_a_client_that_left_before_its_answer_is_counted() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        return

    seen = Seen()
    await call(observed(app, seen))
    assert seen.http == [("unmatched", "GET", 499)]


GOOD_HOSTS = [
    b"localhost",
    b"LOCALHOST:8000",
    b"127.0.0.1:8000",
    b"127.1.2.3",
    b"[::1]:8000",
    b"nibble.lan:80",
]
BAD_HOSTS = [
    b"evil.example",
    b"localhost.evil.example",
    b"127.0.0.1.nip.io",
    b"10.0.0.1",
    b"",
    b"\xff",
    b"[::2]",
]


@pytest.mark.parametrize("host", GOOD_HOSTS)
async def test_our_own_names_are_answered(host: bytes) -> None:
    guard = HostGuard(hello, ["Nibble.lan"], any_address=False)
    assert (await call(guard, [(b"host", host)]))[0] == 200


@pytest.mark.parametrize("host", [*BAD_HOSTS, None])
async def test_other_names_are_refused(host: bytes | None) -> None:
    guard = HostGuard(hello, ["Nibble.lan"], any_address=False)
    status, _, body = await call(guard, [] if host is None else [(b"host", host)])
    error = error_of(body)
    assert (status, error["type"], error["code"]) == (403, "invalid_request_error", "host_not_allowed")
    assert "allowed_hosts" in str(error["message"])


async def test_off_loopback_literal_addresses_are_answered_and_names_are_not() -> None:
    guard = HostGuard(hello, [], any_address=True)
    assert (await call(guard, [(b"host", b"10.0.0.1:8000")]))[0] == 200
    assert (await call(guard, [(b"host", b"[fe80::1]")]))[0] == 200
    assert (await call(guard, [(b"host", b"evil.example")]))[0] == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        (b"http://localhost:8000", 200),
        (b"https://localhost:8000", 200),
        (b"https://chat.example", 200),
        (b"HTTPS://CHAT.EXAMPLE", 200),
        (b"http://localhost:3000", 403),
        (b"https://evil.example", 403),
        (b"null", 403),
        (b"", 403),
    ],
)
async def test_origins(origin: bytes | None, status: int) -> None:
    guard = OriginGuard(hello, ["https://chat.example/"])
    headers = [(b"host", b"localhost:8000")] + ([] if origin is None else [(b"origin", origin)])
    answer = await call(guard, headers)
    assert answer[0] == status
    if status == 403:
        assert error_of(answer[2])["code"] == "origin_not_allowed"


async def test_a_star_allows_every_origin() -> None:
    assert (await call(OriginGuard(hello, ["*"]), [(b"origin", b"https://any.example")]))[0] == 200


async def test_layers_are_stacked_outermost_first() -> None:
    seen = Seen()
    app = stack(
        hello,
        [partial(RequestObserver, metrics=seen), partial(HostGuard, names=(), any_address=False)],
    )
    status, headers, _ = await call(app, [(b"host", b"evil.example")])
    assert status == 403
    assert b"x-request-id" in dict(headers), "a refusal carries an id, too"
    assert seen.http == [("unmatched", "GET", 403)]


def test_host_names() -> None:
    assert [host_name(text) for text in ("a", "A:1", "[::1]", "[::1]:1", ":1", "")] == [
        "a",
        "a",
        "::1",
        "::1",
        "",
        "",
    ]
