"""Which models are in memory, by an admin's hand."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from model_registry.model_detail import ModelDetail
from routes.admin.bodies import LoadBody, UnloadBody
from routes.admin.models import json_answer
from routes.allowed_models import models_for
from routes.caller import caller_of
from routes.json_body import read_json_body
from routes.openai.documentation import answers, request_body
from routes.services import Services
from routes.work import outlast

_NEVER = frozenset(
    {
        "unsupported_field",
        "context_length_exceeded",
        "queue_full",
        "rate_limit_exceeded",
        "worker_died",
        "request_timeout",
    }
)


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["admin"])

    @router.post(
        "/admin/v1/models/load",
        response_model=None,
        responses=answers(ModelDetail, never=_NEVER),
        openapi_extra=request_body(LoadBody),
    )
    async def load(request: Request) -> Response:
        """Load a model, and answer when it is loaded. The load goes on if the client leaves."""
        models = models_for(caller_of(request), services.registry)
        body = (await read_json_body(request, LoadBody, services.strict_policy)).value
        await outlast(request, models.load(body.model))
        return json_answer(models.detail(body.model, serving=True))

    @router.post(
        "/admin/v1/models/unload",
        response_model=None,
        responses=answers(
            ModelDetail,
            never=_NEVER | {"model_load_failed", "model_load_timeout", "insufficient_memory"},
            also=frozenset({"model_busy"}),
        ),
        openapi_extra=request_body(UnloadBody),
    )
    async def unload(request: Request) -> Response:
        """Unload a model, pinned or not, and answer when its memory is given back. One that requests hold is busy."""
        models = models_for(caller_of(request), services.registry)
        body = (await read_json_body(request, UnloadBody, services.strict_policy)).value
        await outlast(request, models.unload(body.model, wait_s=body.wait_s or 0.0, force=bool(body.force)))
        return json_answer(models.detail(body.model, serving=True))

    return router
