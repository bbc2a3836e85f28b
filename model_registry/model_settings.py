"""How one model is served where that differs from the rest."""

from __future__ import annotations

from typing import Annotated

import msgspec

from engine.config import (
    CacheType,
    EngineConfig,
    FlashAttention,
    KvLayoutChoice,
    ReasoningChoice,
    ToolFormatChoice,
)
from model_registry.sampling_defaults import SamplingDefaults

_MOST = (1 << 31) - 1
"""llama.cpp counts in 32 bits."""
_Text = Annotated[str, msgspec.Meta(min_length=1)]


class ModelSettings(
    SamplingDefaults, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One model's own settings, named and bounded as the server's of the same name; None leaves it to those.

    Those of sampling have their names and bounds from a request's fields, and no server's to be left to.
    """

    context: Annotated[int, msgspec.Meta(ge=16, le=_MOST)] | None = None
    parallel: Annotated[int, msgspec.Meta(ge=1, le=256)] | None = None
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    gpu_layers: Annotated[int, msgspec.Meta(ge=0, le=_MOST)] | None = None
    kv_budget: Annotated[int, msgspec.Meta(ge=1, le=1 << 60)] | None = None
    """Bytes."""
    kv_layout: KvLayoutChoice | None = None
    cache_type: CacheType | None = None
    flash_attention: FlashAttention | None = None
    chat_template: _Text | None = None
    reasoning_format: ReasoningChoice | None = None
    tool_format: ToolFormatChoice | None = None
    embed: bool | None = None
    """Whether to make vectors with a model that could generate."""
    matryoshka: bool | None = None
    """Whether its vectors may be cut."""
    adapters: tuple[_Text, ...] | None = None
    """LoRA adapters of this model: NAME of a file in the models directory, or NAME=PATH."""

    pin: bool | None = None
    """Whether it stays loaded, whoever needs its memory and however long it is idle."""
    keep_alive_s: Annotated[float, msgspec.Meta(ge=0, le=1e9)] | None = None
    """Seconds without use after which it is unloaded."""

    def over(self, other: ModelSettings) -> ModelSettings:
        """These settings, and where they say nothing, ``other``'s."""
        return msgspec.structs.replace(other, **self.given())

    def given(self) -> dict[str, object]:
        """What is set, by name."""
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {name: value for name, value in values if value is not None}

    @property
    def sampling(self) -> SamplingDefaults:
        """The part that a request's fields say more than."""
        return SamplingDefaults(**{name: getattr(self, name) for name in SamplingDefaults.__struct_fields__})

    def applied_to(self, config: EngineConfig) -> EngineConfig:
        """``config`` with what is set here in place of what it has."""
        return msgspec.structs.replace(
            config,
            **{
                _ENGINE_NAMES.get(name, name): value
                for name, value in self.given().items()
                if name not in _NOT_THE_ENGINES
            },
        )


_NOT_THE_ENGINES = {"pin", "keep_alive_s", "adapters", *SamplingDefaults.__struct_fields__}
_ENGINE_NAMES = {"kv_budget": "kv_budget_bytes", "embed": "embeds", "matryoshka": "is_matryoshka"}
