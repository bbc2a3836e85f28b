"""Figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from routes.openai.documentation import error_answers
from routes.services import Services

_DESCRIPTION: dict[int | str, dict[str, object]] = {
    200: {
        "description": "Prometheus' text format.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    },
    **error_answers(("invalid_api_key",)),
}


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["metrics"])

    @router.get("/metrics", response_model=None, responses=_DESCRIPTION)
    async def metrics(_request: Request) -> Response:
        """The server's figures. Reading them neither loads a model nor keeps one loaded."""
        content, content_type = services.render_metrics()
        return Response(content, headers={"content-type": content_type})

    return router
