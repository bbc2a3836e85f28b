"""The list of models."""

from __future__ import annotations

from typing import Literal

import msgspec
from fastapi import APIRouter, Request, Response

from engine.config import Capability
from model_registry.card import ModelCard
from model_registry.state import ModelState
from routes.allowed_models import models_for
from routes.caller import caller_of
from routes.listing import Listing
from routes.openai.documentation import WITHOUT_BODY, WITHOUT_MODEL, answers
from routes.services import Services


class ModelObject(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's four fields, and what a client of a local server wants to know."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    context_length: int | None
    """Tokens that one request may use, prompt and answer together; null until the model was loaded once."""
    max_model_len: int | None
    """The same, under vLLM's name."""
    state: ModelState
    failure: str | None
    """Why it is ``failed``, and what mends it: what a request for it is answered with."""
    capabilities: tuple[Capability, ...] | None
    """What it can be asked for; null until the model was loaded once."""
    parent: str | None
    """The model by itself, where this is one with a LoRA adapter."""

    @classmethod
    def of(cls, card: ModelCard) -> ModelObject:
        context = card.facts.context if card.facts else None
        return cls(
            id=card.id,
            created=card.created,
            owned_by=card.owned_by,
            context_length=context,
            max_model_len=context,
            state=card.state,
            failure=card.failure,
            capabilities=card.facts.capabilities if card.facts else None,
            parent=card.parent,
        )


_LISTING = WITHOUT_BODY | WITHOUT_MODEL
MODEL_ID = {"name": "model_id", "in": "path", "required": True, "schema": {"type": "string"}}


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["models"])

    @router.get(
        "/v1/models",
        response_model=None,
        responses=answers(Listing[ModelObject], never=_LISTING | {"model_not_found"}),
    )
    async def list_models(request: Request) -> Response:
        """Every model that this server can answer with, loaded or not."""
        data = tuple(
            ModelObject.of(card) for card in models_for(caller_of(request), services.registry).cards()
        )
        return _json(Listing(data=data))

    @router.get(
        "/v1/models/{model_id:path}",
        response_model=None,
        responses=answers(ModelObject, never=_LISTING),
        openapi_extra={"parameters": [MODEL_ID]},
    )
    async def retrieve_model(request: Request) -> Response:
        """One model, by its id."""
        models = models_for(caller_of(request), services.registry)
        return _json(ModelObject.of(models.card(request.path_params["model_id"])))

    return router


def _json(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
