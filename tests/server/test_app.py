"""The whole app in this process, on the echo engine: what its layers and routes do together."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from model_registry.registry import ModelRegistry
from server.app import create_app
from server.settings import load_settings
from tests.model_registry.fake_engine import write_gguf
from tests.server.echo_engine import EchoEngine

CHAT = "/v1/chat/completions"
BODY: dict[str, object] = {"model": "alpha", "messages": [{"role": "user", "content": "one two"}]}


@asynccontextmanager
async def client(home: Path, **given: object) -> AsyncGenerator[httpx.AsyncClient]:
    write_gguf(home / "alpha.gguf")
    settings = load_settings({"models_dir": home, **given})
    registry = ModelRegistry(settings.registry_config(), EchoEngine.start)
    app = create_app(settings, registry, EchoEngine.start)
    await registry.start()
    await registry.preloaded()
    transport = httpx.ASGITransport(app.asgi)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http
    await registry.stop()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/ready", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/v1/models/alpha", 200),
        ("GET", "/v1/models/nothing", 404),
        ("GET", "/nothing", 404),
        ("GET", CHAT, 405),
        ("POST", CHAT, 415),
    ],
)
async def test_every_answer_has_a_request_id(home: Path, method: str, path: str, status: int) -> None:
    async with client(home) as http:
        answer = await http.request(method, path, headers={"x-request-id": "mine"})
        assert answer.status_code == status
        assert answer.headers.get_list("x-request-id") == ["mine"]


async def test_a_path_with_a_slash_too_many_is_no_route(home: Path) -> None:
    async with client(home) as http:
        answer = await http.post(f"{CHAT}/", json=BODY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "route_not_found")


async def test_a_request_leaves_its_figures(home: Path) -> None:
    async with client(home) as http:
        assert (await http.post(CHAT, json=BODY)).status_code == 200
        assert (await http.post(CHAT, json=BODY | {"model": "x"})).status_code == 404
        text = (await http.get("/metrics")).text
    for line in (
        'nibble_requests_total{finish_reason="stop",model="alpha",operation="chat"} 1.0',
        'nibble_requests_total{finish_reason="refused",model="unknown",operation="chat"} 1.0',
        'http_requests_total{method="POST",route="/v1/chat/completions",status="2xx"} 1.0',
        'nibble_prompt_tokens_total{model="alpha"} 2.0',
        'nibble_model_state{model="alpha",state="ready"} 1.0',
    ):
        assert line in text.splitlines()


async def test_templates_not_paths_are_counted(home: Path) -> None:
    async with client(home) as http:
        await http.get("/v1/models/alpha")
        await http.get("/v1/models/secret-name")
        text = (await http.get("/metrics")).text
    assert "secret-name" not in text
    assert 'route="/v1/models/{' in text


async def test_bodies_over_the_limit_are_refused(home: Path) -> None:
    async with client(home, max_body_bytes="2KiB") as http:
        answer = await http.post(CHAT, json=BODY | {"user": "x" * 3000})
        assert answer.status_code == 413


async def test_unknown_fields_follow_strict(home: Path) -> None:
    async with client(home) as http:
        assert (await http.post(CHAT, json=BODY | {"novelty": 1})).status_code == 400
    async with client(home, strict=False) as http:
        assert (await http.post(CHAT, json=BODY | {"novelty": 1})).status_code == 200


async def test_pages_may_call_only_where_it_was_allowed(home: Path) -> None:
    preflight = {
        "origin": "https://chat.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    async with client(home) as http:
        answer = await http.options(CHAT, headers=preflight)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    async with client(home, allowed_origins=["https://chat.example"]) as http:
        answer = await http.options(CHAT, headers=preflight)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://chat.example"
        assert "access-control-allow-credentials" not in answer.headers
        answer = await http.post(CHAT, json=BODY, headers={"origin": "https://chat.example"})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://chat.example"


async def test_names_that_were_allowed_are_answered(home: Path) -> None:
    async with client(home, allowed_hosts=["nibble.lan"]) as http:
        assert (await http.get("/health", headers={"host": "nibble.lan:8000"})).status_code == 200
        assert (await http.get("/health", headers={"host": "other.lan"})).status_code == 403
