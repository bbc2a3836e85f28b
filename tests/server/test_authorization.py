"""Every route of the app, called without a key, with the wrong one and with the right one."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import BaseRoute

from model_registry.registry import ModelRegistry
from routes.document import document_of
from routes.router import ROOMS, build_routes
from server.app import App, create_app
from server.keys.api_key import KeyLimits
from server.keys.key_store import KeyStore
from server.settings import load_settings
from tests.fakes.house import House
from tests.model_registry.fake_engine import write_gguf
from tests.server.echo_engine import EchoEngine

CHAT = "/v1/chat/completions"
BODY: dict[str, object] = {"model": "alpha", "messages": [{"role": "user", "content": "one two"}]}
PUBLIC = {"/health", "/ready"}
DIAGNOSTICS = {"/metrics", "/openapi.json"}
DELETE = ("DELETE", "/v1/models/{model_id:path}")

INFERENCE_KEY = "inference-key-of-a-test"
ADMIN_KEY = "admin-key-of-a-test"


def with_key(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@asynccontextmanager
async def served(home: Path, **given: object) -> AsyncGenerator[tuple[App, httpx.AsyncClient]]:
    """The app over the models alpha and beta."""
    for name in ("alpha", "beta"):
        write_gguf(home / f"{name}.gguf")
    settings = load_settings({"models_dir": home, **given})
    registry = ModelRegistry(settings.registry_config(), EchoEngine.start)
    app = create_app(settings, registry, EchoEngine.start)
    await registry.start()
    await registry.preloaded()
    transport = httpx.ASGITransport(app.asgi)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield app, http
    await registry.stop()


@pytest.fixture
def two_keys(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIBBLE_API_KEY", INFERENCE_KEY)
    monkeypatch.setenv("NIBBLE_ADMIN_KEY", ADMIN_KEY)


def routes(found: list[BaseRoute]) -> Iterator[tuple[str, str]]:
    """Method and path of each route; fails for one that is not of FastAPI, which could have no authorisation."""
    for route in found:
        assert isinstance(route, APIRoute), route
        for method in sorted(route.methods or ()):
            yield method, route.path


def every_route() -> list[tuple[str, str]]:
    """Room by room: each is asked what it brings, and each GET has its HEAD."""
    services = House().services
    pairs = [
        pair
        for rooms in ROOMS.values()
        for room in rooms
        for pair in routes(room.build_router(services).routes)
    ]
    return pairs + [("HEAD", path) for method, path in pairs if method == "GET"]


EVERY = every_route()


def test_the_walk_meets_what_there_is() -> None:
    paths = {path for _, path in EVERY}
    assert PUBLIC | DIAGNOSTICS | {CHAT, "/v1/models", "/admin/v1/usage", "/tokenize", "/props"} <= paths
    document = set(document_of(House().app)["paths"]) | {"/openapi.json"}
    assert {path.replace(":path}", "}") for path in paths} == document, (
        "the walk misses a route of the document"
    )
    assert sorted(routes(build_routes(House().services))) == sorted(EVERY)


def test_a_route_is_called_with_its_request_and_nothing_that_would_have_to_be_solved() -> None:
    for route in build_routes(House().services):
        assert isinstance(route, APIRoute)
        (parameter,) = inspect.signature(route.endpoint, eval_str=True).parameters.values()
        assert parameter.annotation is Request, route.path


@pytest.mark.usefixtures("two_keys")
@pytest.mark.parametrize(("method", "path"), EVERY)
async def test_nobody_gets_past_without_the_right_key(home: Path, method: str, path: str) -> None:
    url = path.replace("{model_id:path}", "nothing")
    async with served(home, host="0.0.0.0") as (_, http):
        for headers in ({}, with_key("sk-wrong"), {"authorization": f"Basic {ADMIN_KEY}"}):
            answer = await http.request(method, url, headers=headers)
            if path in PUBLIC:
                assert answer.status_code == 200
                continue
            assert answer.status_code == 401, path
            if method != "HEAD":
                error = answer.json()["error"]
                assert (error["type"], error["code"], error["param"]) == (
                    "invalid_request_error",
                    "invalid_api_key",
                    None,
                )
            assert answer.headers["www-authenticate"] == "Bearer"
        answer = await http.request(method, url, headers=with_key(INFERENCE_KEY))
        if path.startswith("/admin/") or (method, path) == DELETE:
            assert answer.status_code == 403
            assert method == "HEAD" or answer.json()["error"]["code"] == "not_permitted"
        else:
            assert answer.status_code not in (401, 403)
        answer = await http.request(method, url, headers={"x-api-key": ADMIN_KEY})
        assert answer.status_code not in (401, 403)


@pytest.mark.usefixtures("two_keys")
@pytest.mark.parametrize("path", sorted(DIAGNOSTICS))
async def test_on_this_machine_figures_need_no_key(home: Path, path: str) -> None:
    async with served(home) as (_, http):
        assert (await http.get(path)).status_code == 200
        assert (await http.get("/v1/models")).status_code == 401


@pytest.mark.usefixtures("two_keys")
async def test_a_key_in_the_address_is_none(home: Path) -> None:
    async with served(home) as (_, http):
        assert (await http.get(f"/v1/models?api_key={ADMIN_KEY}&key={ADMIN_KEY}")).status_code == 401


async def test_a_refused_request_is_counted_and_its_body_is_not_read(home: Path, two_keys: None) -> None:
    async with served(home) as (_, http):
        answer = await http.post(CHAT, content=b"x" * 10_000_000)
        assert answer.status_code == 401, "not 413 or 415"
        assert 'nibble_requests_rejected_total{reason="auth"} 1.0' in (await http.get("/metrics")).text


async def test_a_key_sees_its_models_alone(home: Path) -> None:
    store = KeyStore(load_settings().data_dir)
    secret = store.create("alice", scopes=frozenset({"inference"}), models=frozenset({"beta", "gone"}))
    headers = with_key(secret)
    async with served(home) as (_, http):
        listed = await http.get("/v1/models", headers=headers)
        assert [model["id"] for model in listed.json()["data"]] == ["beta"]
        assert (await http.get("/v1/models/beta", headers=headers)).status_code == 200
        hidden = await http.get("/v1/models/alpha", headers=headers)
        for answer in (hidden, await http.post(CHAT, json=BODY, headers=headers)):
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
            assert "'beta'" in answer.json()["error"]["message"]
        nearly = await http.get("/v1/models/alphaa", headers=headers)
        assert "'alpha'" not in nearly.text, "a hidden model is not even told as the nearest"
        assert (await http.post(CHAT, json=BODY | {"model": "beta"}, headers=headers)).status_code == 200
        assert (await http.get("/props?model=alpha", headers=headers)).status_code == 404


async def test_limits_are_told_and_kept(home: Path) -> None:
    limits = KeyLimits(requests_per_minute=2, tokens_per_minute=1000)
    store = KeyStore(load_settings().data_dir)
    secret = store.create("alice", scopes=frozenset({"inference"}), limits=limits)
    headers = with_key(secret)
    async with served(home) as (_, http):
        first = await http.post(CHAT, json=BODY, headers=headers)
        assert first.status_code == 200
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert first.headers["x-ratelimit-limit-tokens"] == "1000"
        assert int(first.headers["x-ratelimit-remaining-tokens"]) < 1000
        streamed = await http.post(CHAT, json=BODY | {"stream": True}, headers=headers)
        assert streamed.headers["x-ratelimit-remaining-requests"] == "0"
        third = await http.post(CHAT, json=BODY, headers=headers)
        assert third.status_code == 429
        error = third.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert 0 < int(third.headers["retry-after"]) <= 30
        assert third.headers["x-ratelimit-remaining-requests"] == "0"
        assert 'nibble_requests_rejected_total{reason="rate_limit"} 1.0' in (await http.get("/metrics")).text


async def test_the_ledger_counts_what_clients_were_told(home: Path, two_keys: None) -> None:
    async with served(home) as (app, http):
        told = [(await http.post(CHAT, json=BODY, headers=with_key(INFERENCE_KEY))).json() for _ in range(3)]
        streamed = BODY | {"stream": True, "stream_options": {"include_usage": True}}
        await http.post(CHAT, json=streamed, headers=with_key(INFERENCE_KEY))
        await http.post(CHAT, json=BODY | {"model": "none"}, headers=with_key(INFERENCE_KEY))
        answer = await http.get("/admin/v1/usage?key=environment", headers=with_key(ADMIN_KEY))
        (row,) = answer.json()["data"]
        usage = told[0]["usage"]
        assert (row["key"], row["model"], row["requests"]) == ("environment", "alpha", 4)
        assert row["prompt_tokens"] == 4 * usage["prompt_tokens"]
        assert row["completion_tokens"] == 4 * usage["completion_tokens"]
        for query in ("since=yesterday", "until=20260101", "colour=red"):
            refused = await http.get(f"/admin/v1/usage?{query}", headers=with_key(ADMIN_KEY))
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, query.partition("=")[0])
        assert app.services.usage is not None


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.gguf"))


async def test_who_needs_no_key_is_no_admin(home: Path) -> None:
    async with served(home) as (_, http):
        assert (await http.post(CHAT, json=BODY)).status_code == 200
        for method, path in EVERY:
            if path.startswith("/admin/") or (method, path) == DELETE:
                answer = await http.request(method, path.replace("{model_id:path}", "alpha"))
                assert answer.status_code == 403, (method, path)
                if method != "HEAD":
                    error = answer.json()["error"]
                    assert error["code"] == "not_permitted"
                    assert "NIBBLE_ADMIN_KEY" in error["message"]
        assert (await http.get("/v1/models/alpha")).status_code == 200


@pytest.mark.usefixtures("two_keys")
async def test_a_model_is_deleted_by_its_id_and_nothing_else_is(home: Path, tmp_path: Path) -> None:
    async with served(home) as (_, http):
        http.headers.update(with_key(ADMIN_KEY))
        outside = tmp_path / "outside.gguf"
        write_gguf(outside)
        (home / "gamma.gguf").symlink_to(outside)
        for path in ("nothing", "../outside.gguf", "%2e%2e/outside.gguf", "/etc/passwd"):
            answer = await http.delete(f"/v1/models/{path}")
            assert answer.status_code in (404, 405), path
        answer = await http.delete("/v1/models/beta")
        assert (answer.status_code, answer.json()) == (
            200,
            {"id": "beta", "object": "model", "deleted": True, "notes": []},
        )
        assert (await http.get("/v1/models/beta")).status_code == 404
        assert (await http.post(CHAT, json=BODY)).status_code == 200
        assert names_in(home) == ["alpha.gguf", "gamma.gguf"]
    async with served(home) as (_, http):
        http.headers.update(with_key(ADMIN_KEY))
        assert (await http.delete("/v1/models/gamma")).status_code == 200
        assert outside.exists(), "of a link, the link goes"
        (bundled,) = [
            model["id"]
            for model in (await http.get("/v1/models")).json()["data"]
            if model["owned_by"] == "nibble"
        ]
        answer = await http.delete(f"/v1/models/{bundled}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_protected")
        assert (await http.get(f"/v1/models/{bundled}")).status_code == 200
