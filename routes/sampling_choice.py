"""How the tokens of an answer are chosen: as the request says, and where it does not, as its model's settings do."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from pydantic import BaseModel

from engine.errors import InvalidRequest
from engine.sampling.params import SamplingParams
from generation.request import GenerationRequest
from model_registry.sampling_defaults import SamplingDefaults

AskedT = TypeVar("AskedT")

_OFF = SamplingParams()
_REPLACED_BY_MIROSTAT = (
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "top_n_sigma",
    "xtc_probability",
    "dynatemp_range",
)


def with_defaults(asked: AskedT, body: BaseModel, defaults: SamplingDefaults) -> AskedT:
    """``asked`` with the model's ``defaults`` for what ``body`` leaves out. What is no request for text has none.

    A field that is null was not left out: it asks for OpenAI's default, and is the way to get that. Raises
    InvalidRequest where the request contradicts a default.
    """
    if not isinstance(asked, GenerationRequest):
        return asked
    given = set(body.model_fields_set)
    if asked.sampling.mirostat:
        # It stands in for these filters: the model's own would count for nothing, and must not be told as in effect.
        given.update(_REPLACED_BY_MIROSTAT)
    sampling = defaults.in_place_of(asked.sampling, frozenset(given))
    if sampling is asked.sampling:
        return asked
    check_sampling(sampling)
    return msgspec.structs.replace(asked, sampling=sampling)


def check_sampling(params: SamplingParams) -> None:
    """Refuse parameters of which one would make another do nothing, or mean two things. Raises InvalidRequest."""
    if params.is_cold and params.dynatemp_range:
        raise InvalidRequest(
            "'dynatemp_range': temperature 0 is greedy, and a range around it is not.",
            param="dynatemp_range",
        )
    if not params.mirostat:
        return
    if params.is_cold:
        raise InvalidRequest("'mirostat': has nothing to choose at temperature 0.", param="mirostat")
    for name in _REPLACED_BY_MIROSTAT:
        if getattr(params, name) != getattr(_OFF, name):
            raise InvalidRequest(
                f"'{name}': mirostat stands in for this filter; send one or the other.", param=name
            )
