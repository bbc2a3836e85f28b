"""What there is to bring: the models that are recommended, and those that other programs have fetched."""

from __future__ import annotations

from typing import Literal

import msgspec
from fastapi import APIRouter, Request, Response

from model_registry.catalog.catalog import listed_catalog
from model_registry.catalog.catalog_entry import ListedEntry
from routes.admin.models import json_answer
from routes.openai.documentation import WITHOUT_BODY, WITHOUT_MODEL, answers
from routes.services import Services


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: tuple[ListedEntry, ...]


_NEVER = WITHOUT_BODY | WITHOUT_MODEL | {"model_not_found"}


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["admin"])

    @router.get("/admin/v1/catalog", response_model=None, responses=answers(Catalog, never=_NEVER))
    async def list_catalog(request: Request) -> Response:
        """Recommended models, the small before the large: pull one by its id. Sizes are estimates."""
        return json_answer(Catalog(data=listed_catalog()))

    return router
