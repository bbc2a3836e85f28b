"""The first half of every answer: a body that was read and understood, and the model that it names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog
from starlette.requests import Request

from engine.errors import NibbleError
from model_registry.card import ModelCard
from routes.account import Account
from routes.allowed_models import models_for
from routes.caller import Caller, caller_of
from routes.expected_tokens import expected_tokens
from routes.http_errors import RateLimited
from routes.json_body import read_json_tree
from routes.model_choice import chosen_model
from routes.queue_patience import QueuePatience, queue_patience
from routes.rejections import REJECTIONS
from routes.sampling_choice import with_defaults
from routes.services import Services
from routes.telemetry import UNOBSERVED, RequestObservation
from routes.wire_body import ChoosingBody, ModelBody

BodyT = TypeVar("BodyT", bound=ModelBody | ChoosingBody)
AskedT = TypeVar("AskedT")
AskedOutT = TypeVar("AskedOutT", covariant=True)

IGNORED_FIELDS_HEADER = "x-nibble-ignored-fields"
UNKNOWN_MODEL = "unknown"

_log = structlog.stdlib.get_logger(__name__)


class Operation(Protocol[BodyT, AskedOutT]):
    """What ``open_request`` must know of an operation. A ``routes.dialect.Dialect`` is one."""

    @property
    def operation(self) -> str | None:
        """The label of its metrics; None for what computes nothing, and is not among the figures of models."""
        ...

    @property
    def body(self) -> type[BodyT]: ...

    @property
    def parse(self) -> Callable[[BodyT, str], AskedOutT]:
        """Body and request id to what is asked below the routes. Raises InvalidRequest."""
        ...


@dataclass(frozen=True, slots=True)
class OpenedRequest(Generic[BodyT, AskedT]):
    """One request as far as it can be read without its model. Its observation has begun."""

    body: BodyT
    asked: AskedT
    """With what the model's settings bring to it."""
    card: ModelCard
    account: Account
    request_id: str
    observation: RequestObservation
    patience: QueuePatience
    headers: dict[str, str]
    """What the answer says beside its body."""


async def open_request(
    request: Request, services: Services, operation: Operation[BodyT, AskedT]
) -> OpenedRequest[BodyT, AskedT]:
    """Read, validate, parse, find the model. Raises NibbleError, which is counted, and ClientDisconnect."""
    request_id: str = getattr(request.state, "request_id", "")
    caller = caller_of(request)
    named: object = None
    try:
        caller.count_request()
        patience = queue_patience(request, services.policy.queue_timeout_s)
        tree = await read_json_tree(request, services.policy)
        named = tree.tree.get("model")
        body = tree.validated(operation.body, strict=services.policy.strict)
        asked = operation.parse(body.value, request_id)
        card = chosen_model(body.value.model, models_for(caller, services.registry))
        asked = with_defaults(asked, body.value, card.sampling)
        charge = caller.reserve(expected_tokens(body.size_bytes, asked) if operation.operation else 0)
    except NibbleError as error:
        if isinstance(error, RateLimited):
            services.telemetry.rejected(REJECTIONS[RateLimited])
        _observe(services, _known(named, caller, services), operation.operation).failed(error)
        raise
    headers = caller.limit_headers()
    if body.ignored:
        names = ", ".join(body.ignored)
        _log.warning("fields were ignored", fields=names, request_id=request_id)
        headers[IGNORED_FIELDS_HEADER] = names.encode("ascii", "backslashreplace").decode()
    observation = _observe(services, card.id, operation.operation)
    observation.asked(asked)
    account = Account(caller, charge)
    return OpenedRequest(body.value, asked, card, account, request_id, observation, patience, headers)


def _known(named: object, caller: Caller, services: Services) -> str:
    """The id of the model that a refused body names, where there is one that its sender may use."""
    try:
        return (
            models_for(caller, services.registry).card(named).id if isinstance(named, str) else UNKNOWN_MODEL
        )
    except NibbleError:
        return UNKNOWN_MODEL


def _observe(services: Services, model: str, operation: str | None) -> RequestObservation:
    return UNOBSERVED if operation is None else services.telemetry.request_started(model, operation)
