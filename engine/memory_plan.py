"""How the KV cache is divided: how many requests at once, and how long each may be. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config import EngineConfig
from engine.errors import InsufficientMemory

DEFAULT_CONTEXT = 8192
DEFAULT_PARALLEL = 16
LEAST_CONTEXT = 512
_LEAST_PARALLEL = 4
"""Fewer requests at once are planned only when even a shorter context leaves no room for more."""
_SHARE_OF_AVAILABLE = 0.4
_COMFORT_CONTEXT = 4096


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """``parallel`` slots of ``context`` tokens each."""

    context: int
    parallel: int
    kv_bytes: int


def plan_memory(
    config: EngineConfig, *, context_trained: int, kv_bytes_per_token: int, available: int
) -> MemoryPlan:
    """Divide the budget. What the operator fixed is kept; the rest is chosen to fit ``available`` bytes.

    Raises InsufficientMemory, with the numbers, when what was asked for cannot fit.
    """
    budget = config.kv_budget_bytes or int(available * _SHARE_OF_AVAILABLE)
    budget_tokens = budget // max(1, kv_bytes_per_token)
    # 0 is what a file claims that does not say.
    least, most = LEAST_CONTEXT, DEFAULT_CONTEXT
    if context_trained > 0:
        least, most = min(least, context_trained), min(most, context_trained)
    context = config.context or most
    if config.parallel is not None:
        parallel = config.parallel
        if config.context is None:
            context = min(context, budget_tokens // parallel)
    else:
        if config.context is None and budget_tokens // context < _LEAST_PARALLEL:
            context = min(context, max(_COMFORT_CONTEXT, budget_tokens // _LEAST_PARALLEL))
            context = min(context, budget_tokens)
        parallel = max(1, min(DEFAULT_PARALLEL, budget_tokens // max(1, context)))
    needed = context * parallel * kv_bytes_per_token
    if needed > budget or (config.context is None and context < least):
        raise InsufficientMemory(
            f"{parallel} requests of {context} tokens need {_mib(needed)} of KV cache, and the budget is "
            f"{_mib(budget)}; lower `context` or `parallel`, or raise `kv_budget`"
        )
    return MemoryPlan(context, parallel, needed)


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
