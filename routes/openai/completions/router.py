"""The route of completions."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from routes.dialect import Dialect
from routes.openai.completions.body import CompletionBody
from routes.openai.completions.encode import CompletionChunk, encoder
from routes.openai.completions.parse import parse
from routes.openai.completions.render import Completion, render
from routes.openai.documentation import posted
from routes.openai.errors import encode_failure, render_failure
from routes.respond import respond
from routes.services import Services

COMPLETIONS = Dialect(
    operation="completions",
    id_prefix="cmpl-",
    body=CompletionBody,
    parse=parse,
    encoder=encoder,
    render=render,
    encode_failure=encode_failure,
    render_failure=render_failure,
)


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["completions"])

    @posted(router, "/v1/completions", CompletionBody, Completion, CompletionChunk)
    async def create_completion(request: Request) -> Response:
        """Continue a text as it stands, without a chat template."""
        return await respond(request, services, COMPLETIONS)

    return router
