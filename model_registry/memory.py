"""How much memory a model will need."""

from __future__ import annotations

KV_FLOOR_BYTES = 128 << 20
"""A cache worth having."""
_COMPUTE_BYTES = 64 << 20


def estimate_bytes(file_bytes: int, kv_budget_bytes: int | None) -> int:
    """Weights, KV cache and compute buffers of a model that is not loaded yet.

    Without a KV budget the engine fits its cache to what is left, so only a cache worth having is counted.
    """
    kv_bytes = KV_FLOOR_BYTES if kv_budget_bytes is None else kv_budget_bytes
    return file_bytes + kv_bytes + _COMPUTE_BYTES


def least_bytes(kv_budget_bytes: int | None) -> int:
    """The one bound below which a load is impossible, when it is asked for and before a pull.

    All but the weights, which can be read from disk again and again, slowly. Without a KV budget the cache is made as
    small as it has to be.
    """
    return (kv_budget_bytes or 0) + _COMPUTE_BYTES
