"""The OpenAPI document, as a route like any other: FastAPI's own takes no key."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from routes.openai.documentation import resolved
from routes.services import Services


def build_router(services: Services) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/openapi.json", response_model=None)
    async def openapi(request: Request) -> Response:
        """What can be asked, and what is answered."""
        # The first takes long enough for others to notice.
        return JSONResponse(await asyncio.to_thread(document_of, request.app))

    return router


def document_of(app: FastAPI) -> dict[str, Any]:
    """The document, which is made once: FastAPI's, of routes whose promised schemas are made first."""
    if not app.openapi_schema:
        for route in app.routes:
            if isinstance(route, APIRoute):
                route.responses = resolved(route.responses, {})
                route.openapi_extra = resolved(route.openapi_extra, {})
    return app.openapi()
