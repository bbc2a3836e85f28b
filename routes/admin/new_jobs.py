"""Long work on models: asked for here, and followed in ``jobs``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import APIRouter, Request, Response

from engine.errors import InvalidRequest
from engine.quantization_type import quantization_type
from model_registry.jobs.job import JobSnapshot
from model_registry.jobs.job_order import (
    CachedImportOrder,
    ImportOrder,
    JobOrder,
    PullOrder,
    QuantizeOrder,
    TuneOrder,
    VerifyOrder,
)
from model_registry.model_detail import ModelDetail
from model_registry.quantize.model_name import checked_name
from model_registry.tune.sample_text import checked_text
from routes.admin.bodies import ImportBody, PullBody, QuantizeBody, TuneBody, VerifyBody
from routes.admin.models import json_answer
from routes.admin.unrestricted import permit_new
from routes.allowed_models import models_for
from routes.caller import caller_of
from routes.json_body import read_json_body
from routes.openai.documentation import WITHOUT_MODEL, answers, request_body
from routes.services import Services
from routes.wire_body import WireObject

_BodyT = TypeVar("_BodyT", bound=WireObject)
_RouteT = TypeVar("_RouteT", bound=Callable[[Request], Awaitable[Response]])
_ACCEPTED = 202
_NEVER = (WITHOUT_MODEL - {"invalid_request", "queue_full", "model_unavailable"}) | {
    "unsupported_field",
    "context_length_exceeded",
}
_NAMING_NONE = frozenset({"model_not_found"})
"""What a body that names no model here cannot be answered with."""


def build_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["admin"])

    def offered(
        what: str, body: type[WireObject], never: frozenset[str] = frozenset()
    ) -> Callable[[_RouteT], _RouteT]:
        """The decorator of a route that begins a job. ``never`` are kinds of errors that only it cannot answer with."""
        return router.post(
            f"/admin/v1/models/{what}",
            response_model=None,
            responses=answers(JobSnapshot, never=_NEVER | never, status=_ACCEPTED),
            openapi_extra=request_body(body),
        )

    async def read(request: Request, body: type[_BodyT]) -> _BodyT:
        return (await read_json_body(request, body, services.strict_policy)).value

    def begun(order: JobOrder) -> Response:
        job = services.jobs.submit(order)
        answer = json_answer(job, _ACCEPTED)
        answer.headers["location"] = f"/admin/v1/jobs/{job.id}"
        return answer

    @offered("pull", PullBody, _NAMING_NONE)
    async def pull(request: Request) -> Response:
        """Fetch a model into the models directory and try it out: a job. One that was interrupted goes on."""
        body = await read(request, PullBody)
        permit_new(caller_of(request))
        return begun(PullOrder(body.source, force=bool(body.force)))

    @offered("import", ImportBody, _NAMING_NONE)
    async def import_model(request: Request) -> Response:
        """Link a model or a LoRA adapter of the server's machine into the models directory and try it out: a job."""
        order = _import_order(await read(request, ImportBody))
        permit_new(caller_of(request))
        return begun(order)

    @offered("verify", VerifyBody)
    async def verify(request: Request) -> Response:
        """Read a model's files whole, compare them with what they were, and try it out: a job. Of one with a LoRA
        adapter, the adapter's file, with the model that it is for."""
        body = await read(request, VerifyBody)
        return begun(VerifyOrder(models_for(caller_of(request), services.registry).card(body.model).id))

    @offered("quantize", QuantizeBody)
    async def quantize(request: Request) -> Response:
        """Make a new model of another, in a smaller type, and try it out: a job."""
        body = await read(request, QuantizeBody)
        caller = caller_of(request)
        detail = _bare(models_for(caller, services.registry).detail(body.model), body.model)
        permit_new(caller)
        return begun(
            QuantizeOrder(
                model=detail.id,
                to=quantization_type(body.to, is_weighed=body.imatrix is not None).name,
                name=None if body.name is None else checked_name(body.name),
                allow_requantize=bool(body.allow_requantize),
                imatrix=body.imatrix,
            )
        )

    @offered("tune", TuneBody)
    async def tune(request: Request) -> Response:
        """Measure a model and twins of it in other types: a job, whose result is the table. With ``apply``, the twin of
        that type is kept, and serves in the model's place until ``revert``."""
        body = await read(request, TuneBody)
        caller = caller_of(request)
        detail = _bare(models_for(caller, services.registry).detail(body.model), body.model)
        order = _tune_order(detail.id, body)
        if order.apply is not None:
            permit_new(caller)
        return begun(order)

    return router


def _import_order(body: ImportBody) -> ImportOrder | CachedImportOrder:
    """Raises InvalidRequest for a body that names neither a file nor another program's model, or something of both."""
    if body.from_ is None:
        if body.name is not None:
            raise InvalidRequest(
                "'name' means one of another program's models: give 'from', too", param="name"
            )
        if body.path is None:
            raise InvalidRequest("'path': the field is required where there is no 'from'", param="path")
        return ImportOrder(body.path, body.for_)
    if body.path is not None:
        raise InvalidRequest(
            "'path' names a file, and 'from' another program: give one of them", param="path"
        )
    if body.for_ is not None:
        raise InvalidRequest("'for' is of LoRA adapters, and what 'from' names is none", param="for")
    if body.name is None:
        raise InvalidRequest(
            "'name': the field is required beside 'from'; GET /admin/v1/found lists what there is",
            param="name",
        )
    return CachedImportOrder(body.from_, body.name)


def _tune_order(model_id: str, body: TuneBody) -> TuneOrder:
    """Raises InvalidRequest for a type or a text that is none, and for more beside ``revert``."""
    if body.revert:
        if any(each is not None for each in (body.text, body.types, body.apply)):
            raise InvalidRequest("'revert' measures nothing: give it alone", param="revert")
        return TuneOrder(model=model_id, revert=True)
    return TuneOrder(
        model=model_id,
        text=None if body.text is None else checked_text(body.text.encode(), "the text"),
        types=tuple(quantization_type(each, param="types").name for each in body.types or ()),
        apply=None if body.apply is None else quantization_type(body.apply, param="apply").name,
    )


def _bare(detail: ModelDetail, name: str) -> ModelDetail:
    """``detail``, of the model called ``name``. Raises InvalidRequest for one with an adapter: the base is meant."""
    if name not in (detail.id, *detail.aliases):
        raise InvalidRequest(
            f"'{name[:200]}' is '{detail.id}' with an adapter: name '{detail.id}'", param="model"
        )
    return detail
