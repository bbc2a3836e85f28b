"""The request fields that chat and completions share: they exist once, here."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from engine.errors import InvalidRequest
from engine.sampling.params import SamplingParams
from routes.caller import MAX_PRIORITY
from routes.sampling_choice import check_sampling
from routes.wire_body import WireBody, WireObject

MAX_INT32 = 2**31 - 1
MAX_CHOICES = 512
"""Choices of one request, over all its prompts."""
MAX_BIASED_TOKENS = 10_000
MAX_ALLOWED_TOKENS = 10_000
MAX_BAD_WORDS = 256
MAX_BREAKERS = 16
_SAMPLING_FIELDS = frozenset(SamplingParams.__struct_fields__)

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
TokenId = Annotated[int, Field(ge=0, le=MAX_INT32)]
StopString = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Count = Annotated[int, Field(ge=1, le=MAX_INT32)]
Share = Annotated[float, Field(ge=0, le=1)]
LastTokens = Annotated[int, Field(ge=-1, le=MAX_INT32)]
"""So many of the last tokens; -1 is all of them."""
BadWord = Annotated[str, StringConstraints(min_length=1, max_length=256)]
BadSequence = Annotated[list[TokenId], Field(min_length=1, max_length=64, fail_fast=True)]
Breaker = Annotated[str, StringConstraints(min_length=1, max_length=40)]


class StreamOptions(WireObject):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class SamplingFields(WireBody):
    """How to choose tokens, when to stop, how many answers, and in which form they are sent.

    Sampling parameters that are not OpenAI's have llama.cpp's names and meanings; ``ignore_eos``, ``min_tokens``,
    ``bad_words`` and ``allowed_token_ids`` have vLLM's.
    """

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    dynatemp_range: Annotated[float, Field(ge=0, le=2)] | None = None
    dynatemp_exponent: Annotated[float, Field(ge=0, le=10)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=MAX_INT32)] | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    top_n_sigma: Annotated[float, Field(ge=-1, le=100)] | None = None
    xtc_probability: Share | None = None
    xtc_threshold: Share | None = None
    min_keep: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    mirostat: Annotated[int, Field(ge=0, le=2)] | None = None
    mirostat_tau: Annotated[float, Field(ge=0, le=100)] | None = None
    mirostat_eta: Share | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    repeat_last_n: LastTokens | None = None
    dry_multiplier: Annotated[float, Field(ge=0, le=100)] | None = None
    dry_base: Annotated[float, Field(ge=1, le=100)] | None = None
    dry_allowed_length: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    dry_penalty_last_n: LastTokens | None = None
    dry_sequence_breakers: Annotated[list[Breaker], Field(max_length=MAX_BREAKERS, fail_fast=True)] | None = (
        None
    )
    logit_bias: LogitBias = None
    bad_words: (
        Annotated[list[BadWord | BadSequence], Field(max_length=MAX_BAD_WORDS, fail_fast=True)] | None
    ) = None
    allowed_token_ids: (
        Annotated[list[TokenId], Field(min_length=1, max_length=MAX_ALLOWED_TOKENS, fail_fast=True)] | None
    ) = None
    stop: StopString | Annotated[list[StopString], Field(max_length=4, fail_fast=True)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    max_tokens: Count | None = None
    min_tokens: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    ignore_eos: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    priority: Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] | None = None
    """vLLM's: of requests that wait, a lower number goes first. How low it may be is the API key's to say."""

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
        """The canonical parameters; a field that is missing or null takes OpenAI's default.

        ``routes.sampling_choice`` puts the model's own in the place of what is missing, once the model is known.
        """
        given: dict[str, Any] = {
            name: _frozen(value)
            for name in _SAMPLING_FIELDS & self.model_fields_set
            if (value := getattr(self, name)) is not None
        }
        # -1 is another way to turn these off: vLLM's for top_k, llama.cpp's for top_n_sigma.
        if "top_k" in given:
            given["top_k"] = max(0, given["top_k"])
        if "top_n_sigma" in given:
            given["top_n_sigma"] = max(0.0, given["top_n_sigma"])
        return SamplingParams(**given)

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
        check_sampling(self.sampling_params())


def _frozen(value: object) -> object:
    """A list of a body, and the lists in it, as msgspec's frozen structs hold them; all else as it is."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
