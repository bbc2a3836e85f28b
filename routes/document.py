"""The OpenAPI document, as a route like any other: FastAPI's own takes no key."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from routes.services import Services


def build_router(services: Services) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/openapi.json", response_model=None)
    async def openapi(request: Request) -> Response:
        """What can be asked, and what is answered."""
        return JSONResponse(request.app.openapi())

    return router
