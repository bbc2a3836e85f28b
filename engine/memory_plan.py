"""How the KV cache is divided: how many requests at once, how long each may be, and whether each has its own part.

Two layouts. Partitioned gives each request a buffer for its whole context, and decodes some 20 % faster. Unified
is one pool from which each request is promised what it may need at most, so that the few long requests that fit
leave room for more short ones. Partitioned is chosen where ``LEAST_PARTITIONS`` requests of the full context fit:
from some four on, the cores are what requests wait for; with fewer, they would wait for places while the memory
of the others' unused context lies idle. Pure arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.config import EngineConfig, KvLayout
from engine.errors import InsufficientMemory

DEFAULT_CONTEXT = 8192
DEFAULT_PARALLEL = 16
LEAST_CONTEXT = 512
LEAST_PARTITIONS = 4
"""Requests of the full context that must fit at once for each to get a buffer of its own."""
_LEAST_PARALLEL = 4
"""Fewer requests at once are planned only when even a shorter context leaves no room for more."""
_SHARE_OF_AVAILABLE = 0.4
_SPARING_SHARE = 0.1
"""Where the weights do not fit: each byte of KV cache is one of weights that is read from disk for each token."""
_COMFORT_CONTEXT = 4096
_PREFIX_SHARE = 0.1
_PREFIX_MOST_BYTES = 2 << 30
_POOL_TOKENS_PER_SLOT = 1024
"""A pool gets a slot for so many of its tokens: what a request of usual length is promised."""
_PAD = 256
"""llama.cpp rounds each buffer up to a multiple of so many tokens (llama_context.cpp, n_ctx_seq)."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """``parallel`` slots of at most ``context`` tokens each, which together hold ``kv_tokens``."""

    context: int
    parallel: int
    kv_bytes: int
    kv_tokens: int
    layout: KvLayout = "partitioned"
    reason: str = ""
    """Why this layout, for the log."""


def plan_memory(
    config: EngineConfig,
    *,
    context_trained: int,
    kv_bytes_per_token: int,
    available: int,
    can_share_pool: bool = True,
) -> MemoryPlan:
    """Divide the budget. What the operator fixed is kept; the rest is chosen to fit ``available`` bytes.

    ``can_share_pool`` is False for memory that holds a state instead of tokens. Raises InsufficientMemory, with
    the numbers, when what was asked for cannot fit.
    """
    # 0 is what a file claims that does not say.
    least, most = LEAST_CONTEXT, DEFAULT_CONTEXT
    if context_trained > 0:
        least, most = min(least, context_trained), min(most, context_trained)
    least_bytes = padded(config.context or least) * kv_bytes_per_token
    budget = config.kv_budget_bytes or _budget(config, available, least_bytes)
    budget_tokens = budget // max(1, kv_bytes_per_token)
    wanted = config.context or most
    fitting = budget_tokens // padded(wanted)
    layout, reason = _choose_layout(config, wanted, fitting, can_share_pool=can_share_pool)
    if layout == "partitioned":
        context, parallel = _partitions(config, wanted, budget_tokens)
        kv_tokens = parallel * padded(context)
    else:
        context = wanted if config.context else min(wanted, _rounded_down(budget_tokens))
        parallel = config.parallel or _pool_slots(min(budget_tokens, DEFAULT_PARALLEL * wanted))
        kv_tokens = max(padded(context), min(_rounded_down(budget_tokens), parallel * padded(context)))
    needed = kv_tokens * kv_bytes_per_token
    is_too_short = config.context is None and context < least
    if needed > budget or is_too_short:
        requests = parallel if layout == "partitioned" else 1
        if is_too_short:
            context, needed = least, requests * least_bytes
        raise InsufficientMemory(
            f"{requests} requests of {context} tokens need {_mib(needed)} of KV cache, and the budget is "
            f"{_mib(budget)}; lower `context` or `parallel`, raise `kv_budget`, or halve what a token takes with "
            "`cache_type` q8_0"
        )
    return MemoryPlan(context, parallel, needed, kv_tokens, layout, reason)


def plan_prefix_memory(config: EngineConfig, available: int) -> int:
    """Bytes for prefixes that lost their slots, of ``available`` bytes once model and KV cache are there."""
    if config.prefix_memory_bytes is not None:
        return config.prefix_memory_bytes
    planned = most_prefix_bytes(available)
    return planned if config.prefix_most_bytes is None else min(planned, config.prefix_most_bytes)


def most_kv_bytes(available: int) -> int:
    """What the KV cache takes at most of ``available`` bytes, where no budget is set."""
    return int(available * _SHARE_OF_AVAILABLE)


def most_prefix_bytes(available: int) -> int:
    """What saved prefixes take at most of ``available`` bytes, where that is not set."""
    return min(int(available * _PREFIX_SHARE), _PREFIX_MOST_BYTES)


def _budget(config: EngineConfig, available: int, least_bytes: int) -> int:
    planned = most_kv_bytes(available)
    if config.spares_memory:
        # Without a cache for one request the weights are of no use.
        planned = min(planned, max(int(available * _SPARING_SHARE), least_bytes))
    return planned if config.kv_most_bytes is None else min(planned, config.kv_most_bytes)


def _choose_layout(
    config: EngineConfig, wanted: int, fitting: int, *, can_share_pool: bool
) -> tuple[KvLayout, str]:
    if config.kv_layout != "auto":
        return config.kv_layout, "as set"
    if not can_share_pool:
        return "partitioned", "this model's memory is a state for each request"
    enough = config.parallel or LEAST_PARTITIONS
    room = f"the budget holds {fitting} requests of {wanted} tokens"
    if fitting >= enough:
        return "partitioned", f"{room}; a buffer for each is the fastest"
    return "unified", f"{room}, fewer than {enough}; so all share one pool"


def _partitions(config: EngineConfig, wanted: int, budget_tokens: int) -> tuple[int, int]:
    """Context and number of slots."""
    context = wanted
    if config.parallel is not None:
        if config.context is None:
            context = min(context, _rounded_down(budget_tokens // config.parallel))
        return context, config.parallel
    if config.context is None and budget_tokens // padded(context) < _LEAST_PARALLEL:
        context = min(context, max(_COMFORT_CONTEXT, _rounded_down(budget_tokens // _LEAST_PARALLEL)))
        context = min(context, _rounded_down(budget_tokens))
    return context, max(1, min(DEFAULT_PARALLEL, budget_tokens // max(1, padded(context))))


def _pool_slots(pool_tokens: int) -> int:
    return max(_LEAST_PARALLEL, min(DEFAULT_PARALLEL, pool_tokens // _POOL_TOKENS_PER_SLOT))


def padded(tokens: int) -> int:
    """Tokens that llama.cpp makes room for where ``tokens`` are asked for."""
    return -(-tokens // _PAD) * _PAD


def _rounded_down(tokens: int) -> int:
    return tokens // _PAD * _PAD


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
