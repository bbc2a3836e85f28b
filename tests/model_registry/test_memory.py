from __future__ import annotations

from model_registry.memory import estimate_bytes


def test_the_estimate_counts_weights_cache_and_buffers() -> None:
    assert estimate_bytes(100 << 20, 300 << 20) == (100 + 300 + 64) << 20
    assert estimate_bytes(100 << 20, None) == (100 + 128 + 64) << 20
