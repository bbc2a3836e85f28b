"""HEAD for every route that takes GET: the same status and headers, and no content (RFC 9110, 9.3.2)."""

from __future__ import annotations

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response


def head_of(route: APIRoute) -> APIRoute:
    """HEAD beside the GET of ``route``. A route of its own: GET's would stand twice in the OpenAPI document."""
    answer = route.endpoint

    async def answer_head(request: Request) -> Response:
        """Ask what GET would answer, and send none of it; a stream is not even begun."""
        told: Response = await answer(request)
        bare = Response(status_code=told.status_code, background=told.background)
        # Its own length is 0, and the one to be told is that of GET's answer, where that has one.
        bare.raw_headers = told.raw_headers
        return bare

    return APIRoute(route.path, answer_head, methods=["HEAD"], response_model=None, include_in_schema=False)
