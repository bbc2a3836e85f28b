"""Models: all that is known of them, what is said of them, and their end."""

from __future__ import annotations

from typing import Literal

import msgspec
from fastapi import APIRouter, Request, Response

from engine.errors import InvalidRequest
from model_registry.adapter_detail import AdapterDetail
from model_registry.amendment import Amendment
from model_registry.model_detail import ModelDetail
from routes.admin.bodies import AmendBody, checked_settings
from routes.allowed_models import models_for
from routes.caller import caller_of
from routes.json_body import read_json_body
from routes.listing import Listing
from routes.openai.documentation import (
    WITHOUT_BODY,
    WITHOUT_MODEL,
    Schema,
    answers,
    error_answers,
    json_content,
    request_body,
    struct_schema,
)
from routes.openai.models import MODEL_ID
from routes.services import RegistryPort, Services


class DeletedModel(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's shape, and what else has changed."""

    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True
    notes: tuple[str, ...] = ()
    """What is otherwise besides, one sentence each: names, twins and adapters that went with it, or lost it."""


_EITHER: Schema = {
    "description": "The answer.",
    "content": json_content({"anyOf": [struct_schema(ModelDetail), struct_schema(AdapterDetail)]}),
}
_AMENDING = WITHOUT_MODEL - {"invalid_request", "model_unavailable"}


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["admin"])
    documented = answers(DeletedModel, never=WITHOUT_BODY | {"rate_limit_exceeded"})

    @router.delete(
        "/v1/models/{model_id:path}",
        response_model=None,
        responses=documented | {403: error_answers(("not_permitted", "model_protected"))[403]},
        openapi_extra={"parameters": [MODEL_ID]},
    )
    async def delete_model(request: Request) -> Response:
        """Delete a model's files, and all that is known of it. Answers that are under way come to their end."""
        model_id = request.path_params["model_id"]
        effects = await models_for(caller_of(request), services.registry).remove(model_id)
        return json_answer(DeletedModel(id=model_id, notes=tuple(effect.text for effect in effects)))

    @router.get(
        "/admin/v1/models",
        response_model=None,
        responses=answers(Listing[ModelDetail], never=WITHOUT_BODY | WITHOUT_MODEL | {"model_not_found"}),
    )
    async def list_details(request: Request) -> Response:
        """All that is known of every model: facts, settings, state, memory, use."""
        models = models_for(caller_of(request), services.registry)
        return json_answer(Listing(data=tuple(models.details())))

    @router.get(
        "/admin/v1/models/{model_id:path}",
        response_model=None,
        responses=answers(ModelDetail, never=WITHOUT_BODY | WITHOUT_MODEL) | {200: _EITHER},
        openapi_extra={"parameters": [MODEL_ID]},
    )
    async def show_detail(request: Request) -> Response:
        """All that is known of one model; of one with a LoRA adapter, what it has of its own."""
        models = models_for(caller_of(request), services.registry)
        name = request.path_params["model_id"]
        return json_answer(models.adapter(name) or models.detail(name))

    @router.patch(
        "/admin/v1/models/{model_id:path}",
        response_model=None,
        responses=answers(
            ModelDetail, never=frozenset({"unsupported_field", "context_length_exceeded"}) | _AMENDING
        ),
        openapi_extra={"parameters": [MODEL_ID], **request_body(AmendBody)},
    )
    async def amend_model(request: Request) -> Response:
        """Change a model's settings, aliases, tags and notes. Settings count from its next load."""
        models = models_for(caller_of(request), services.registry)
        model_id = request.path_params["model_id"]
        models.detail(model_id)
        body = (await read_json_body(request, AmendBody, services.strict_policy)).value
        await models.amend(model_id, _amendment(model_id, body, models))
        return json_answer(models.detail(model_id))

    return router


def json_answer(value: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _amendment(model_id: str, body: AmendBody, models: RegistryPort) -> Amendment:
    settings = None
    if body.settings is not None:
        try:
            settings = checked_settings(models.detail(model_id).settings.given() | body.settings)
        except ValueError as error:
            # What the command line has set may be what a request must not.
            raise InvalidRequest(f"'settings': {error}", param="settings") from None
    return Amendment(
        aliases=None if body.aliases is None else tuple(body.aliases),
        tags=None if body.tags is None else tuple(body.tags),
        notes=body.notes,
        settings=settings,
    )
