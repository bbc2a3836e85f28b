"""Figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response

from routes.services import Services

_DESCRIPTION: dict[int | str, dict[str, object]] = {
    200: {
        "description": "Prometheus' text format, or OpenMetrics.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["metrics"])

    @router.get("/metrics", response_model=None, responses=_DESCRIPTION)
    async def metrics() -> Response:
        """The server's figures. Reading them neither loads a model nor keeps one loaded."""
        content, content_type = services.render_metrics()
        return Response(content, headers={"content-type": content_type})

    return router
