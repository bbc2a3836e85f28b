"""The table from error kinds to OpenAI's statuses, types and codes, and the shape they are written in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from engine.errors import InternalError, InvalidRequest, NibbleError
from routes.http_errors import MethodNotAllowed, RateLimited, RouteNotFound
from routes.openai.chunk_encoder import frame

_log = structlog.stdlib.get_logger(__name__)


class ErrorDetail(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct, frozen=True):
    error: ErrorDetail


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """How one kind of error looks to a client; its code is its kind."""

    status: int
    type: str
    retry_after_s: float | None = None
    """For errors that bring no figure of their own; None sends no header."""
    should_retry: bool = True
    """False tells OpenAI's clients, who would retry this status, that the same request will fail again."""


_BAD = "invalid_request_error"
_FAULT = "server_error"
_TOO_MANY_REQUESTS = 429
_FIRST_OF_SERVERS = 500
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

ERROR_ROWS: dict[str, ErrorRow] = {
    "invalid_request": ErrorRow(400, _BAD),
    "unsupported_field": ErrorRow(400, _BAD),
    "context_length_exceeded": ErrorRow(400, _BAD),
    "request_quarantined": ErrorRow(400, _BAD),
    "invalid_api_key": ErrorRow(401, _BAD),
    "not_permitted": ErrorRow(403, _BAD),
    "model_protected": ErrorRow(403, _BAD),
    "model_not_found": ErrorRow(404, _BAD),
    "job_not_found": ErrorRow(404, _BAD),
    "route_not_found": ErrorRow(404, _BAD),
    "method_not_allowed": ErrorRow(405, _BAD),
    "body_timeout": ErrorRow(408, _BAD),
    # It stays busy for as long as its requests take, which no client of OpenAI's would wait for.
    "model_busy": ErrorRow(409, _BAD, should_retry=False),
    "request_too_large": ErrorRow(413, _BAD),
    "unsupported_media_type": ErrorRow(415, _BAD),
    "rate_limit_exceeded": ErrorRow(_TOO_MANY_REQUESTS, "rate_limit_error", retry_after_s=1),
    "key_queue_full": ErrorRow(_TOO_MANY_REQUESTS, "rate_limit_error", retry_after_s=1),
    "internal_error": ErrorRow(500, _FAULT),
    # The file will not mend itself between two tries.
    "model_load_failed": ErrorRow(500, _FAULT, should_retry=False),
    "model_load_timeout": ErrorRow(504, _FAULT, should_retry=False),
    "model_unavailable": ErrorRow(503, _FAULT, retry_after_s=1),
    "queue_full": ErrorRow(503, _FAULT, retry_after_s=1),
    "queue_timeout": ErrorRow(503, _FAULT, retry_after_s=1),
    # A worker is back in about a second; a request that ends two of them is refused from then on.
    "worker_died": ErrorRow(503, _FAULT, retry_after_s=1),
    "insufficient_memory": ErrorRow(503, _FAULT, retry_after_s=10),
    "insufficient_disk": ErrorRow(503, _FAULT, should_retry=False),
    # Not 408: a client would at once repeat what was too much work the first time.
    "request_timeout": ErrorRow(504, _FAULT, should_retry=False),
}


def is_refusal(error: NibbleError) -> bool:
    """Whether it is for the sender of the request to mend, and not for whoever runs the server."""
    return ERROR_ROWS[error.kind].status < _FIRST_OF_SERVERS


def error_body(error: NibbleError) -> ErrorBody:
    row = ERROR_ROWS[error.kind]
    return ErrorBody(ErrorDetail(error.message, row.type, error.param, error.kind))


def encode_failure(error: NibbleError) -> bytes:
    """The frame that ends a stream which failed. No ``[DONE]`` follows it: that would say that all is well.

    OpenAI's clients raise on it as an APIError whose body is the error.
    """
    return frame(error_body(error))


def render_failure(error: NibbleError) -> Response:
    """The answer to a request that failed."""
    row = ERROR_ROWS[error.kind]
    headers = dict(error.headers) if isinstance(error, RateLimited) else {}
    if row.status == 401:
        headers["www-authenticate"] = "Bearer"
    wait_s = row.retry_after_s if error.retry_after_s is None else error.retry_after_s
    if wait_s is not None and (row.status >= 500 or row.status == _TOO_MANY_REQUESTS):
        headers["retry-after"] = str(math.ceil(wait_s))
        headers["retry-after-ms"] = str(math.ceil(wait_s * 1000))
    if not row.should_retry:
        headers["x-should-retry"] = "false"
    return _json_response(error_body(error), row.status, headers)


def install(app: FastAPI) -> None:
    """Make every failure of ``app`` answer in OpenAI's shape, whoever raised it."""
    app.add_exception_handler(NibbleError, _on_nibble_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_defect)


async def _on_nibble_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, NibbleError):
        raise error
    return render_failure(error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    param = str(first["loc"][-1])
    return render_failure(InvalidRequest(f"'{param}': {first['msg']}.", param=param))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What Starlette and FastAPI raise themselves."""
    if not isinstance(error, HTTPException):
        raise error
    method, path, headers = request.method, request.url.path, dict(error.headers or {})
    if error.status_code == 404:
        detail = error_body(RouteNotFound(f"There is no route {method} {path}."))
    elif error.status_code == 405:
        detail = error_body(MethodNotAllowed(f"{path} does not take {method}."))
        headers = {"allow": ", ".join(_methods_at(request))}
    else:
        kind = _BAD if error.status_code < 500 else _FAULT
        detail = ErrorBody(ErrorDetail(str(error.detail), kind, None, None))
    return _json_response(detail, error.status_code, headers)


def _methods_at(request: Request) -> list[str]:
    """What the path takes, by whichever route: Starlette names the methods of the first alone."""
    return [
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=499)


async def _on_defect(request: Request, error: Exception) -> Response:
    _log.error("a route failed by a defect", exc_info=error)
    response = render_failure(InternalError("The server has a defect; its log tells more."))
    # Starlette answers this one outside of every middleware, the one that names requests included.
    if request_id := getattr(request.state, "request_id", ""):
        response.headers["x-request-id"] = request_id
    return response


def _json_response(body: ErrorBody, status: int, headers: dict[str, str]) -> Response:
    return Response(msgspec.json.encode(body), status, headers, "application/json")
