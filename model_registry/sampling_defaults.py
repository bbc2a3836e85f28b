"""How one model's tokens are chosen where a request does not say."""

from __future__ import annotations

from typing import Annotated

import msgspec

from engine.sampling.params import SamplingParams

_MOST = (1 << 31) - 1
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]


class SamplingDefaults(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Named and bounded as the fields of a request; None leaves OpenAI's default.

    There is no seed: with one, all who ask the same would be answered the same, and nobody would know why.
    """

    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: _Share | None = None
    top_k: Annotated[int, msgspec.Meta(ge=-1, le=_MOST)] | None = None
    """0 and -1 keep all."""
    min_p: _Share | None = None
    repeat_penalty: Annotated[float, msgspec.Meta(gt=0, le=10)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None

    def in_place_of(self, left_out: SamplingParams, given: frozenset[str]) -> SamplingParams:
        """``left_out`` with what is set here, but for the names in ``given``."""
        values = {
            name: value
            for name in SamplingDefaults.__struct_fields__
            if name not in given and (value := getattr(self, name)) is not None
        }
        if "top_k" in values:
            values["top_k"] = max(0, values["top_k"])
        return msgspec.structs.replace(left_out, **values) if values else left_out
