"""The routes over fakes: an app, what it stands on, and clients for it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import httpx
from fastapi import FastAPI

from routes.openai.errors import install
from routes.request_policy import RequestPolicy
from routes.router import build_routes
from routes.services import Services
from tests.fakes.callers import FakeCallers, FakeUsage
from tests.fakes.engine import FakeEngine
from tests.fakes.jobs import FakeJobs
from tests.fakes.pruning import FakePruning
from tests.fakes.registry import MODEL, FakeRegistry
from tests.fakes.telemetry import FakeTelemetry

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"
JSON_HEADERS = {"content-type": "application/json"}

CHAT_BODY: dict[str, object] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
COMPLETION_BODY: dict[str, object] = {"model": MODEL, "prompt": "Once"}
BODIES = {CHAT_PATH: CHAT_BODY, COMPLETIONS_PATH: COMPLETION_BODY}

EMBEDDINGS_PATH = "/v1/embeddings"
RERANK_PATH = "/v1/rerank"
PLAIN_BODIES: dict[str, dict[str, object]] = {
    EMBEDDINGS_PATH: {"model": MODEL, "input": "Once"},
    RERANK_PATH: {"model": MODEL, "query": "abc", "documents": ["xyz", "abx"]},
    "/tokenize": {"content": "Once"},
    "/detokenize": {"tokens": [79, 110]},
    "/apply-template": {"messages": [{"role": "user", "content": "Hi"}]},
}
"""Of the operations that are never streamed."""
ADMIN_BODIES: dict[str, dict[str, object]] = {
    "/admin/v1/models/load": {"model": MODEL},
    "/admin/v1/models/unload": {"model": MODEL},
    "/admin/v1/models/verify": {"model": MODEL},
    "/admin/v1/models/quantize": {"model": MODEL, "to": "Q4_0"},
    "/admin/v1/models/tune": {"model": MODEL, "types": ["Q4_0"]},
    "/admin/v1/models/pull": {"source": "hf:owner/repository"},
    "/admin/v1/models/import": {"path": "/models/tiny.gguf"},
    "/admin/v1/prune": {"yes": True},
}
"""Of what an admin asks for."""


@dataclass
class House:
    """Owned by the event loop of the test."""

    engine: FakeEngine = field(default_factory=FakeEngine)
    policy: RequestPolicy = field(default_factory=RequestPolicy)

    def __post_init__(self) -> None:
        self.registry = FakeRegistry(self.engine)
        self.jobs = FakeJobs()
        self.pruning = FakePruning()
        self.telemetry = FakeTelemetry()
        self.callers = FakeCallers()
        self.usage = FakeUsage()
        self.services = Services(
            registry=self.registry,
            jobs=self.jobs,
            pruning=self.pruning,
            callers=self.callers,
            telemetry=self.telemetry,
            usage=self.usage,
            policy=self.policy,
            render_metrics=lambda: (b"nibble_up 1\n", "text/plain; version=1.0.0"),
        )
        self.app = FastAPI(openapi_url=None)
        self.app.router.routes.extend(build_routes(self.services))
        install(self.app)

    def transport(self) -> httpx.ASGITransport:
        return httpx.ASGITransport(self.app, raise_app_exceptions=False)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=self.transport(), base_url="http://nibble")

    async def post(self, path: str, body: object) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.client() as client:
            return await client.post(path, content=content, headers=JSON_HEADERS)


def frames(stream: str) -> list[dict[str, object]]:
    """The JSON of each event of a whole stream, which must end with ``[DONE]``."""
    *events, done, rest = stream.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events if not event.startswith(":")]
