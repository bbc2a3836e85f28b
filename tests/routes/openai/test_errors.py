from __future__ import annotations

import json

import pytest
from fastapi import HTTPException

from engine.errors import NibbleError, error_classes
from routes.openai.errors import ERROR_ROWS, encode_failure, render_failure
from tests.fakes.house import CHAT_PATH, House
from tests.fakes.specification import validate

# Of the whole tree: the table's own module imports the leaves that only HTTP knows.
KINDS = error_classes()
# Statuses that OpenAI's clients retry.
RETRIED = {408, 409, 429, *range(500, 600)}


def test_every_kind_has_a_row_and_every_row_a_kind() -> None:
    assert ERROR_ROWS.keys() == KINDS.keys()


@pytest.mark.parametrize("error_class", KINDS.values(), ids=KINDS.keys())
def test_every_kind_is_told_in_openai_s_shape(error_class: type[NibbleError]) -> None:
    error = error_class("why", param="field")
    reply = render_failure(error)
    body = json.loads(bytes(reply.body))
    row = ERROR_ROWS[error.kind]
    assert body == {"error": {"message": "why", "type": row.type, "param": "field", "code": error.kind}}
    assert encode_failure(error) == b"data: " + bytes(reply.body) + b"\n\n"
    assert reply.headers["content-type"] == "application/json"
    # Only what can work the second time is retried: bad input never can.
    is_retried = reply.status_code in RETRIED and reply.headers.get("x-should-retry") != "false"
    assert is_retried == (row.status in RETRIED and row.should_retry)
    limited = "rate_limit_error" if row.status == 429 else "invalid_request_error"
    assert row.type == ("server_error" if row.status >= 500 else limited)


def test_it_is_the_shape_of_the_specification() -> None:
    validate(json.loads(bytes(render_failure(NibbleError("why")).body)), "ErrorResponse")


def test_an_error_s_own_retry_time_goes_before_the_table_s() -> None:
    reply = render_failure(KINDS["queue_full"]("full", retry_after_s=0.3))
    assert (reply.headers["retry-after"], reply.headers["retry-after-ms"]) == ("1", "300")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "route_not_found"),
        ("POST", "/v1/nope", 404, "route_not_found"),
        ("GET", CHAT_PATH, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/nope", 404, "model_not_found"),
    ],
)
async def test_what_no_route_takes(method: str, path: str, status: int, code: str) -> None:
    async with House().client() as client:
        reply = await client.request(method, path)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (status, code)
    assert error.keys() == {"message", "type", "param", "code"}
    assert ("allow" in reply.headers) == (status == 405)


async def test_what_a_route_or_a_dependency_raises() -> None:
    house = House()

    @house.app.get("/defect")
    async def defect() -> None:
        raise ZeroDivisionError("ours")

    @house.app.get("/forbidden")
    async def forbidden() -> None:
        raise HTTPException(401, "Who are you?", {"www-authenticate": "Bearer"})

    @house.app.get("/number/{number}")
    async def number(number: int) -> None: ...

    async with house.client() as client:
        reply = await client.get("/defect")
        assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")
        assert "ours" not in reply.text
        reply = await client.get("/forbidden")
        assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
        expected = {"message": "Who are you?", "type": "invalid_request_error", "param": None, "code": None}
        assert reply.json() == {"error": expected}
        reply = await client.get("/number/x")
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "number")
