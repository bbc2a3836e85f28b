"""The route of embeddings."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from engine.embedding import EmbeddingRequest, Embeddings
from generation.engine_port import EnginePort
from routes.openai.documentation import posted
from routes.openai.embeddings.body import EmbeddingBody
from routes.openai.embeddings.parse import parse
from routes.openai.embeddings.render import EmbeddingList, render
from routes.openai.errors import render_failure
from routes.operation import Operation, answer
from routes.services import Services


async def embed(engine: EnginePort, request: EmbeddingRequest) -> Embeddings:
    return await engine.embed(request)


EMBEDDINGS = Operation(
    operation="embeddings",
    body=EmbeddingBody,
    parse=parse,
    act=embed,
    render=render,
    render_failure=render_failure,
    prompt_tokens=lambda told: told.prompt_tokens,
)


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["embeddings"])

    @posted(router, "/v1/embeddings", EmbeddingBody, EmbeddingList)
    async def create_embedding(request: Request) -> Response:
        """A vector of length 1 for each input, in order."""
        return await answer(request, services, EMBEDDINGS)

    return router
