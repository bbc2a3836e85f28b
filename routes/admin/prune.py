"""What nothing uses: shown by one request, and removed by another that says so."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from model_registry.leftovers import Leftover
from model_registry.pruning import PrunedLeftover
from routes.admin.bodies import PruneBody
from routes.admin.models import json_answer
from routes.admin.unrestricted import require_unrestricted
from routes.caller import caller_of
from routes.json_body import read_json_body
from routes.listing import Listing
from routes.openai.documentation import WITHOUT_BODY, WITHOUT_MODEL, answers, request_body
from routes.services import Services

_PATH = "/admin/v1/prune"
_SHOWING = (WITHOUT_BODY | WITHOUT_MODEL | {"model_not_found"}) - {"model_unavailable"}
_DOING = (WITHOUT_MODEL - {"invalid_request", "model_unavailable"}) | {
    "model_not_found",
    "unsupported_field",
    "context_length_exceeded",
}


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["admin"])

    @router.get(_PATH, response_model=None, responses=answers(Listing[Leftover], never=_SHOWING))
    async def show_leftovers(request: Request) -> Response:
        """What pruning would remove: partial downloads, links that lead nowhere, records of models that are gone, and
        the like. Changes nothing."""
        require_unrestricted(caller_of(request), "see what is left of others")
        return json_answer(Listing(data=tuple(await asyncio.to_thread(services.pruning.find))))

    @router.post(
        _PATH,
        response_model=None,
        responses=answers(Listing[PrunedLeftover], never=_DOING),
        openapi_extra=request_body(PruneBody),
    )
    async def prune(request: Request) -> Response:
        """Remove it, for good. The answer tells of each whether it is gone."""
        await read_json_body(request, PruneBody, services.strict_policy)
        require_unrestricted(caller_of(request), "remove what is left of others")
        found = await asyncio.to_thread(services.pruning.find)
        return json_answer(Listing(data=tuple(await asyncio.to_thread(services.pruning.remove, found))))

    return router
