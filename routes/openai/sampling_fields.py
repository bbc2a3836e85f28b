"""The request fields that chat and completions share: they exist once, here."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from engine.errors import InvalidRequest
from engine.sampling.params import SamplingParams
from routes.wire_body import WireBody, WireObject

MAX_INT32 = 2**31 - 1
MAX_CHOICES = 512
"""Choices of one request, over all its prompts."""
MAX_BIASED_TOKENS = 10_000

Number = TypeVar("Number", int, float)

_TOKEN_ID = re.compile(r"[0-9]{1,10}", re.ASCII)


def _read_bias(value: object) -> object:
    """Token ids are keys of a JSON object, and so come as text. Their upper bound is the engine's to know."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise PydanticCustomError("dict_type", "should be an object of token ids and numbers")
    if len(value) > MAX_BIASED_TOKENS:
        raise PydanticCustomError("too_many", f"should name at most {MAX_BIASED_TOKENS} tokens")
    biases: dict[int, float] = {}
    for key, bias in value.items():
        if not _TOKEN_ID.fullmatch(key) or int(key) > MAX_INT32:
            raise PydanticCustomError("token_id", 'should have token ids as keys, such as "50256"')
        if type(bias) not in (int, float) or not -100 <= bias <= 100:
            raise PydanticCustomError("bias", "should have values between -100 and 100")
        if int(key) in biases:
            raise PydanticCustomError("token_id", "names a token twice")
        biases[int(key)] = float(bias)
    return biases


LogitBias = Annotated[
    dict[int, float] | None,
    BeforeValidator(_read_bias),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "object",
                    "maxProperties": MAX_BIASED_TOKENS,
                    "propertyNames": {"pattern": "^[0-9]{1,10}$"},
                    "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
                },
                {"type": "null"},
            ]
        }
    ),
]
StopString = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Count = Annotated[int, Field(ge=1, le=MAX_INT32)]


class StreamOptions(WireObject):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class SamplingFields(WireBody):
    """How to choose tokens, when to stop, how many answers, and in which form they are sent.

    ``top_k``, ``min_p``, ``repeat_penalty``, ``ignore_eos`` and ``min_tokens`` are not OpenAI's; the names
    are those that llama.cpp and vLLM use.
    """

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=MAX_INT32)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    logit_bias: LogitBias = None
    stop: StopString | Annotated[list[StopString], Field(max_length=4, fail_fast=True)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    max_tokens: Count | None = None
    min_tokens: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    ignore_eos: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    @property
    def choices_per_prompt(self) -> int:
        return 1 if self.n is None else self.n

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def include_obfuscation(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_obfuscation)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def sampling_params(self) -> SamplingParams:
        """The canonical parameters; a field that is missing or null takes OpenAI's default."""
        defaults = SamplingParams()
        return SamplingParams(
            temperature=_or(self.temperature, defaults.temperature),
            # vLLM's way to turn the filter off is -1, llama.cpp's is 0.
            top_k=max(0, _or(self.top_k, defaults.top_k)),
            top_p=_or(self.top_p, defaults.top_p),
            min_p=_or(self.min_p, defaults.min_p),
            seed=self.seed,
            frequency_penalty=_or(self.frequency_penalty, defaults.frequency_penalty),
            presence_penalty=_or(self.presence_penalty, defaults.presence_penalty),
            repeat_penalty=_or(self.repeat_penalty, defaults.repeat_penalty),
            logit_bias=self.logit_bias or {},
        )

    def check(self, *, prompts: int, max_tokens: int | None, multiplier: Literal["n", "prompt"]) -> None:
        """What no field can tell alone. ``multiplier`` is the field to name when there are too many choices.

        Raises InvalidRequest.
        """
        if self.stream_options and not self.stream:
            raise InvalidRequest(
                "'stream_options': only allowed when 'stream' is true.", param="stream_options"
            )
        if max_tokens is not None and (self.min_tokens or 0) > max_tokens:
            raise InvalidRequest(
                f"'min_tokens': {self.min_tokens} is more than the most tokens asked for, {max_tokens}.",
                param="min_tokens",
            )
        if (choices := prompts * self.choices_per_prompt) > MAX_CHOICES:
            raise InvalidRequest(
                f"'{multiplier}': the request asks for {choices} answers; {MAX_CHOICES} are the most.",
                param=multiplier,
            )


def _or(value: Number | None, default: Number) -> Number:
    return default if value is None else value
