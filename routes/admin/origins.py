"""What there is to bring: the models that are recommended, and those that other programs have fetched."""

from __future__ import annotations

import asyncio
from typing import get_args

from fastapi import APIRouter, Request, Response

from engine.errors import InvalidRequest
from model_registry.caches.cached_model import CacheName, ListedModel, listed
from model_registry.caches.found import CACHES, cached_models
from model_registry.catalog.catalog import listed_catalog
from model_registry.catalog.catalog_entry import ListedEntry
from routes.admin.models import json_answer
from routes.admin.unrestricted import require_unrestricted
from routes.caller import caller_of
from routes.listing import Listing
from routes.openai.documentation import WITHOUT_BODY, WITHOUT_MODEL, answers
from routes.services import Services

_FROM = {
    "name": "from",
    "in": "query",
    "required": False,
    "schema": {"type": "string", "enum": list(get_args(CacheName))},
}
_NEVER = WITHOUT_BODY | WITHOUT_MODEL | {"model_not_found"}


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["admin"])

    @router.get(
        "/admin/v1/catalog", response_model=None, responses=answers(Listing[ListedEntry], never=_NEVER)
    )
    async def list_catalog(request: Request) -> Response:
        """Recommended models, the small before the large: pull one by its id. Sizes are estimates."""
        return json_answer(Listing(data=listed_catalog()))

    @router.get(
        "/admin/v1/found",
        response_model=None,
        responses=answers(Listing[ListedModel], never=_NEVER - {"invalid_request"}),
        openapi_extra={"parameters": [_FROM]},
    )
    async def list_found(request: Request) -> Response:
        """What other programs have fetched to the server's machine, all or ``from`` one of them: import it by name."""
        require_unrestricted(caller_of(request), "see what else there is on the server's machine")
        caches = _caches(dict(request.query_params))
        models = await asyncio.to_thread(lambda: tuple(map(listed, cached_models(caches))))
        return json_answer(Listing(data=models))

    return router


def _caches(parameters: dict[str, str]) -> tuple[CacheName, ...]:
    """Raises InvalidRequest, which names the parameter."""
    for name in parameters:
        if name != "from":
            raise InvalidRequest(f"'{name[:100]}': this route does not know it.", param=name[:100])
    if (wanted := parameters.get("from")) is None:
        return CACHES
    chosen = tuple(cache for cache in CACHES if cache == wanted)
    if not chosen:
        raise InvalidRequest(f"'from': takes one of {', '.join(CACHES)}.", param="from")
    return chosen
