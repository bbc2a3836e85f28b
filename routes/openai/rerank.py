"""``POST /v1/rerank``: how well each document answers a query. Not OpenAI's: the shape is Jina's and Cohere's."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import Field, StringConstraints

from engine.embedding import EmbeddingRequest, Embeddings, PairPrompt
from model_registry.card import ModelCard
from routes.openai.documentation import posted
from routes.openai.embeddings.body import MAX_INPUTS
from routes.openai.embeddings.render import PromptUsage, numbers_of
from routes.openai.embeddings.router import embed
from routes.openai.errors import render_failure
from routes.openai.sampling_fields import Count
from routes.operation import Operation, answer
from routes.services import Services
from routes.wire_body import ModelBody, WireObject

Text = Annotated[str, StringConstraints(min_length=1)]


class TextDocument(WireObject):
    text: Text


class RerankBody(ModelBody):
    query: Text
    documents: Annotated[
        list[Text | TextDocument], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)
    ]
    top_n: Count | None = None
    """How many of the best to answer with; all without it."""
    return_documents: bool | None = None


class WireDocument(msgspec.Struct, frozen=True):
    text: str


class RerankResult(msgspec.Struct, frozen=True):
    index: int
    """Of the document in the request."""
    relevance_score: float
    """Between 0 and 1, and larger for what answers better."""
    document: WireDocument | msgspec.UnsetType = msgspec.UNSET


class RerankAnswer(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    model: str
    results: tuple[RerankResult, ...]
    """The best first."""
    usage: PromptUsage


def parse(body: RerankBody, request_id: str) -> EmbeddingRequest:
    return EmbeddingRequest(
        inputs=tuple(PairPrompt(body.query, text) for text in _texts(body)),
        param="documents",
        is_list=True,
        request_id=request_id,
    )


def render(told: Embeddings, body: RerankBody, card: ModelCard) -> bytes:
    scores = [numbers_of(row)[0] for row in told.vectors]
    best = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[: body.top_n]
    texts = _texts(body) if body.return_documents else None
    results = (
        RerankResult(index, scores[index], WireDocument(texts[index]) if texts else msgspec.UNSET)
        for index in best
    )
    usage = PromptUsage(told.prompt_tokens, told.prompt_tokens)
    return msgspec.json.encode(RerankAnswer(model=card.id, results=tuple(results), usage=usage))


def _texts(body: RerankBody) -> list[str]:
    return [item if isinstance(item, str) else item.text for item in body.documents]


RERANK = Operation(
    operation="rerank",
    body=RerankBody,
    parse=parse,
    act=embed,
    render=render,
    render_failure=render_failure,
    prompt_tokens=lambda told: told.prompt_tokens,
)


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["rerank"])

    @posted(router, "/v1/rerank", RerankBody, RerankAnswer)
    async def rerank(request: Request) -> Response:
        """Score documents against a query, and sort them by it."""
        return await answer(request, services, RERANK)

    return router
