"""Reading a request's body: bytes within limits, strict JSON, then the dialect's own model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import ClientDisconnect, Request

from engine.errors import InvalidRequest, UnsupportedField
from routes.field_path import field_path, most_telling, remove, steps_of
from routes.http_errors import BodyTimeout, RequestTooLarge, UnsupportedMediaType
from routes.json_scan import scan_json
from routes.not_served import UNSUPPORTED_FIELD
from routes.request_policy import RequestPolicy
from routes.wire_body import WireObject

BodyT = TypeVar("BodyT", bound=WireObject)

_MOST_IGNORED = 64


@dataclass(frozen=True, slots=True)
class JsonBody(Generic[BodyT]):
    """A validated body, and the places of the fields that were ignored (never any in strict mode)."""

    value: BodyT
    ignored: tuple[str, ...] = ()
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class JsonTree:
    """A body that is JSON, of which no more is known."""

    tree: dict[str, Any]
    size_bytes: int

    def validated(self, model: type[BodyT], *, strict: bool) -> JsonBody[BodyT]:
        """Raises InvalidRequest and UnsupportedField. Without ``strict``, takes what is ignored out of the tree."""
        ignored: list[str] = []
        while True:
            try:
                # The scanned tree is validated, not the bytes once more: two parsers would be two opinions.
                return JsonBody(model.model_validate(self.tree), tuple(ignored), self.size_bytes)
            except ValidationError as error:
                errors = error.errors(include_url=False, include_input=False)
            unknown = [steps_of(item, self.tree) for item in errors if item["type"] == "extra_forbidden"]
            if strict or not unknown or len(ignored) + len(unknown) > _MOST_IGNORED:
                raise _refusal(errors, self.tree)
            for steps in unknown:
                remove(self.tree, steps)
            ignored.extend(field_path(steps) for steps in unknown)


async def read_json_body(request: Request, model: type[BodyT], policy: RequestPolicy) -> JsonBody[BodyT]:
    """Read, parse and validate. Raises what ``read_json_tree`` and ``JsonTree.validated`` raise."""
    return (await read_json_tree(request, policy)).validated(model, strict=policy.strict)


async def read_json_tree(request: Request, policy: RequestPolicy) -> JsonTree:
    """Read and parse.

    Raises UnsupportedMediaType, RequestTooLarge, BodyTimeout and InvalidRequest, and starlette's ClientDisconnect
    when the client goes away before its body has come.
    """
    _require_json(request)
    try:
        async with asyncio.timeout(policy.body_timeout_s):
            raw = await _read(request, policy.max_body_bytes)
    except TimeoutError:
        raise BodyTimeout(f"The body did not arrive within {policy.body_timeout_s:g} seconds.") from None
    return scan(raw)


def scan(raw: bytes) -> JsonTree:
    """The part of ``read_json_tree`` that does not wait."""
    tree = scan_json(raw)
    if not isinstance(tree, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return JsonTree(tree, len(raw))


def validate(raw: bytes, model: type[BodyT], *, strict: bool) -> JsonBody[BodyT]:
    """The part of ``read_json_body`` that does not wait: from bytes to a validated body."""
    return scan(raw).validated(model, strict=strict)


def _require_json(request: Request) -> None:
    content_type = request.headers.get("content-type", "")
    media_type, _, parameters = content_type.partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if media_type.strip().lower() != "application/json" or charset not in {"", "utf-8"}:
        raise UnsupportedMediaType("Send the body as 'content-type: application/json'.")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        # What unpacks may grow a thousandfold, and no client of OpenAI's packs.
        raise UnsupportedMediaType(f"Send the body as it is, without 'content-encoding: {encoding[:40]}'.")


async def _read(request: Request, limit: int) -> bytes:
    too_large = RequestTooLarge(f"The body is larger than the {limit} bytes that this server accepts.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise too_large
    raw, has_more = bytearray(), True
    while has_more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        raw += message.get("body", b"")
        if len(raw) > limit:
            raise too_large
        has_more = message.get("more_body", False)
    return bytes(raw)


def _refusal(errors: list[ErrorDetails], tree: object) -> InvalidRequest:
    told, steps = most_telling(errors, tree)
    param = field_path(steps) or None
    words = " or ".join(dict.fromkeys(_in_words(error) for error in told))
    message = f"'{param}': {words}." if param else f"The body {words}."
    if told[0]["type"] == UNSUPPORTED_FIELD:
        return UnsupportedField(message, param=param)
    return InvalidRequest(message, param=param)


def _in_words(error: ErrorDetails) -> str:
    match error["type"]:
        case "missing" | "union_tag_not_found":
            return "the field is required"
        case "extra_forbidden":
            return "this server does not know the field"
        case "union_tag_invalid":
            return f"must be one of {error['ctx']['expected_tags']}"
        case "too_short":
            return f"should have at least {error['ctx']['min_length']} item"
        case "too_long":
            return f"should have at most {error['ctx']['max_length']} items"
        case _:
            message = error["msg"].removeprefix("Input ")
            return f"{message[:1].lower()}{message[1:]}"
