"""Who used how much."""

from __future__ import annotations

import datetime

import msgspec
from fastapi import APIRouter, Request, Response

from engine.errors import InvalidRequest
from routes.day_usage import DayUsage, UsageQuery
from routes.listing import Listing
from routes.openai.documentation import WITHOUT_BODY, answers
from routes.services import Services

_DAYS = ("since", "until")
_FIELDS = (*_DAYS, "key", "model")


def _parameter(name: str) -> dict[str, object]:
    schema = {"type": "string", "format": "date"} if name in _DAYS else {"type": "string"}
    return {"name": name, "in": "query", "required": False, "schema": schema}


def read_query(parameters: dict[str, str]) -> UsageQuery:
    """Raises InvalidRequest, which names the parameter."""
    for name, value in parameters.items():
        if name not in _FIELDS:
            raise InvalidRequest(f"'{name[:100]}': this route does not know it.", param=name[:100])
        if name in _DAYS:
            _check_day(name, value)
    return UsageQuery(**parameters)


def _check_day(name: str, value: str) -> None:
    try:
        is_day = datetime.date.fromisoformat(value).isoformat() == value
    except ValueError:
        is_day = False
    if not is_day:
        raise InvalidRequest(f"'{name}': takes a day, as in 2026-01-31.", param=name)


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["admin"])

    @router.get(
        "/admin/v1/usage",
        response_model=None,
        responses=answers(Listing[DayUsage], never=WITHOUT_BODY | {"model_not_found", "rate_limit_exceeded"}),
        openapi_extra={"parameters": [_parameter(name) for name in _FIELDS]},
    )
    async def usage(request: Request) -> Response:
        """Requests and tokens by day, key and model."""
        rows = await services.usage.usage(read_query(dict(request.query_params)))
        return Response(msgspec.json.encode(Listing(data=tuple(rows))), media_type="application/json")

    return router
