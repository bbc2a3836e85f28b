"""Whether the process lives, and whether it can answer."""

from __future__ import annotations

from typing import Literal

import msgspec
from fastapi import APIRouter, Request, Response

from routes.openai.documentation import error_answers, json_content, struct_schema
from routes.services import Services


class Health(msgspec.Struct, frozen=True):
    status: Literal["ok", "ready", "not ready", "stopping"]


_CONTENT = json_content(struct_schema(Health))


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get(
        "/health",
        response_model=None,
        responses={200: {"description": "Alive.", "content": _CONTENT}, **error_answers()},
    )
    async def health(_request: Request) -> Response:
        """The process is alive. Says nothing of models, lest a supervisor kill a server that loads one."""
        return _answer(200, Health("ok"))

    @router.get(
        "/ready",
        response_model=None,
        responses={
            200: {"description": "A model has decoded a token.", "content": _CONTENT},
            503: {"description": "No model can answer yet, or the server stops.", "content": _CONTENT},
            **error_answers(),
        },
    )
    async def ready(_request: Request) -> Response:
        """Whether a request would be answered: a model has decoded a token, and the server does not stop."""
        if services.running.is_draining:
            return _answer(503, Health("stopping"))
        if not services.registry.is_ready:
            return _answer(503, Health("not ready"))
        return _answer(200, Health("ready"))

    return router


def _answer(status: int, health: Health) -> Response:
    headers = {"cache-control": "no-store"} | ({"retry-after": "1"} if status == 503 else {})
    return Response(msgspec.json.encode(health), status, headers, "application/json")
