"""HEAD, wherever GET is served: what GET would tell in its headers, and nothing behind them (RFC 9110, 9.3.2)."""

from __future__ import annotations

import pytest
from fastapi.routing import APIRoute

from routes.document import document_of
from routes.router import ROOMS
from tests.fakes.house import House


def _served() -> list[str]:
    services = House().services
    return [
        route.path.replace("{model_id:path}", "alpha").replace("{job_id}", "job-1")
        for rooms in ROOMS.values()
        for room in rooms
        for route in room.build_router(services).routes
        if isinstance(route, APIRoute) and "GET" in (route.methods or ())
    ]


@pytest.mark.parametrize("path", _served())
async def test_head_tells_what_get_would(path: str) -> None:
    async with House().client() as client:
        got, told = await client.get(path), await client.head(path)
    assert told.status_code == got.status_code != 405
    for name in {*got.headers, *told.headers}:
        assert told.headers.get(name) == got.headers.get(name), name
    if got.status_code == 200:
        assert told.content == b"", "what a handler of errors adds is dropped by the server itself"


async def test_what_has_no_get_has_no_head() -> None:
    async with House().client() as client:
        answer = await client.head("/v1/chat/completions")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert (await client.head("/nothing")).status_code == 404


async def test_a_refused_method_is_told_of_all_that_are_served() -> None:
    async with House().client() as client:
        for path, methods in {
            "/health": "GET, HEAD",
            "/v1/models/alpha": "GET, HEAD, DELETE",
            "/v1/completions": "POST",
        }.items():
            answer = await client.put(path)
            assert (answer.status_code, answer.headers["allow"]) == (405, methods), path


async def test_the_document_does_not_name_it() -> None:
    for operations in document_of(House().app)["paths"].values():
        assert "head" not in operations
