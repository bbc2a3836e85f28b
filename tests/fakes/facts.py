"""What a loaded model would tell of itself."""

from __future__ import annotations

from engine.config import ModelFacts

CONTEXT = 8192


def facts(context: int = CONTEXT) -> ModelFacts:
    return ModelFacts(
        description="llama 135M Q4_1",
        architecture="llama",
        parameters=135_000_000,
        file_bytes=98_362_432,
        context=context,
        context_trained=context,
        parallel=8,
        kv_layout="partitioned",
        kv_bytes=1 << 28,
        threads=2,
        threads_reason="the quota of the cgroup",
        backend="CPU",
        vocabulary=49152,
        has_chat_template=True,
        build="0.3.36",
        load_s=0.5,
    )
