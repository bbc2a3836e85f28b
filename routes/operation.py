"""Answers that are not streamed: one question to a loaded model, one answer of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from engine.embedding import EmbeddingRequest
from engine.errors import NibbleError
from generation.engine_port import EnginePort
from generation.events import Finished, Usage
from model_registry.card import ModelCard
from routes.opened_request import open_request
from routes.respond import CLIENT_CLOSED_REQUEST
from routes.services import LeasePort, Services
from routes.wire_body import ChoosingBody, ModelBody
from routes.work import Work, outlast

BodyT = TypeVar("BodyT", bound=ModelBody | ChoosingBody)
AskedT = TypeVar("AskedT")
ToldT = TypeVar("ToldT")


@dataclass(frozen=True, slots=True)
class Operation(Generic[BodyT, AskedT, ToldT]):
    """One wire format of one question."""

    operation: str | None
    """The label of its metrics; None for what computes nothing."""
    body: type[BodyT]
    parse: Callable[[BodyT, str], AskedT]
    """Body and request id to what the engine is asked. Raises InvalidRequest."""
    act: Callable[[EnginePort, AskedT], Awaitable[ToldT]]
    render: Callable[[ToldT, BodyT, ModelCard], bytes]
    render_failure: Callable[[NibbleError], Response]
    prompt_tokens: Callable[[ToldT], int] = lambda told: 0
    """What the answer cost, for the figures."""


async def answer(
    request: Request, services: Services, operation: Operation[BodyT, AskedT, ToldT]
) -> Response:
    """The answer to ``request``. A client that leaves ends the work. Raises no NibbleError."""
    try:
        return await _answer(request, services, operation)
    except NibbleError as error:
        return operation.render_failure(error)
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _answer(
    request: Request, services: Services, operation: Operation[BodyT, AskedT, ToldT]
) -> Response:
    opened = await open_request(request, services, operation)
    account = opened.account
    work = Work(services, opened.card.id, opened.request_id, opened.observation, account, opened.patience)
    rendered = b""

    async def act(lease: LeasePort) -> None:
        nonlocal rendered
        asked = opened.asked
        if isinstance(asked, EmbeddingRequest):
            asked = msgspec.structs.replace(
                asked, tenant=account.caller.name, queue_timeout_s=work.patience.left_s
            )
        told = await operation.act(lease.engine, asked)
        account.note(Finished(0, "stop", Usage(prompt_tokens=operation.prompt_tokens(told))))
        rendered = operation.render(told, opened.body, lease.card)

    await outlast(request, work.run(act))
    return Response(rendered, media_type="application/json", headers=opened.headers)
