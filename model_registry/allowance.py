"""What a model that loads may take beside its weights: its engine plans for itself, and cannot know of others."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from engine.config import EngineConfig
from engine.memory_plan import most_kv_bytes, most_prefix_bytes


@dataclass(frozen=True, slots=True)
class Allowance:
    """Bytes, at most. What the operator has fixed is no matter of it."""

    kv_bytes: int
    prefix_bytes: int

    @property
    def bytes(self) -> int:
        return self.kv_bytes + self.prefix_bytes

    def within(self, config: EngineConfig) -> EngineConfig:
        """``config`` with what its engine may plan with."""
        return msgspec.structs.replace(
            config, kv_most_bytes=self.kv_bytes, prefix_most_bytes=self.prefix_bytes
        )


def allow(left_bytes: int, config: EngineConfig, *, least_kv_bytes: int) -> Allowance:
    """The shares that an engine takes of what is left, of ``left_bytes``, which are there beside its weights.

    ``least_kv_bytes`` are allowed in any case: what is asked for before the load.
    """
    kv_bytes = config.kv_budget_bytes or max(most_kv_bytes(left_bytes), min(least_kv_bytes, left_bytes))
    prefix_bytes = config.prefix_memory_bytes
    if prefix_bytes is None:
        prefix_bytes = most_prefix_bytes(max(0, left_bytes - kv_bytes))
    return Allowance(kv_bytes, prefix_bytes)
