"""What a request for text comes down to, told to a client that asks: ``x-nibble-effective: 1``.

The answer's header of the same name holds a JSON object: the parameters that the engine works with, and under
``defaulted`` the names of those that the request left to the server.
"""

from __future__ import annotations

import json

import msgspec
from starlette.requests import Request

from engine.errors import InvalidRequest
from generation.request import GenerationRequest
from routes.wire_body import WireBody

EFFECTIVE_HEADER = "x-nibble-effective"
_MOST_VALUE_LENGTH = 256
"""What is longer stays away: it came from the client in any case, and headers have narrow limits."""


def effective_headers(request: Request, body: WireBody, asked: GenerationRequest) -> dict[str, str]:
    """The header to answer with, if ``request`` asks for it. Raises InvalidRequest for another value than 0 and 1."""
    match request.headers.get(EFFECTIVE_HEADER, "0"):
        case "0":
            return {}
        case "1":
            return {EFFECTIVE_HEADER: _described(body, asked)}
        case _:
            raise InvalidRequest(f"The header '{EFFECTIVE_HEADER}' takes 0 and 1.", param=EFFECTIVE_HEADER)


def _described(body: WireBody, asked: GenerationRequest) -> str:
    values: dict[str, object] = {
        "n": asked.n,
        "max_tokens": asked.max_tokens,
        "min_tokens": asked.min_tokens,
        "ignore_eos": asked.ignore_eos,
        "stop": asked.stop,
        "lora": [{"id": use.name, "scale": use.scale} for use in asked.adapters],
        **{name: getattr(asked.sampling, name) for name in asked.sampling.__struct_fields__},
    }
    given = {name for name in body.model_fields_set if getattr(body, name) is not None}
    if "max_completion_tokens" in given:
        given.add("max_tokens")
    told = {name: value for name, value in values.items() if len(_json(value)) <= _MOST_VALUE_LENGTH}
    return _json({**told, "defaulted": sorted(values.keys() - given)})


def _json(value: object) -> str:
    """JSON of ASCII alone, as headers take it."""
    return json.dumps(msgspec.to_builtins(value, str_keys=True), separators=(",", ":"))
