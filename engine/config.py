"""What an engine is told before it starts, and what it tells once it runs."""

from __future__ import annotations

from typing import Literal

import msgspec

KvLayout = Literal["partitioned", "unified"]
KvLayoutChoice = Literal["auto", "partitioned", "unified"]
CacheType = Literal["f16", "q8_0", "q4_0"]
FlashAttention = Literal["auto", "on", "off"]


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How to serve one model file. None means: measure or derive, and say what was chosen in ``ModelFacts``."""

    model_id: str
    model_path: str
    context: int | None = None
    """Tokens that one request may use, prompt and answer together."""
    parallel: int | None = None
    """Requests that run at once."""
    threads: int | None = None
    gpu_layers: int | None = None
    """Layers computed by the GPU; None is all of them where the build has a GPU backend."""
    kv_budget_bytes: int | None = None
    """Memory for the KV cache; None is a share of what the machine or its cgroup has left."""
    kv_layout: KvLayoutChoice = "auto"
    """Whether each request has a buffer of its own or all share a pool; auto follows the budget (memory_plan)."""
    cache_type: CacheType = "f16"
    """Format of keys and values; q8_0 takes about half of f16, q4_0 about a quarter. Both need flash attention."""
    flash_attention: FlashAttention = "auto"
    """auto is llama.cpp's own choice, which is on wherever the device has the kernel."""
    prefix_memory_bytes: int | None = None
    """Host memory for prefixes that lost their slots; None is a share of what is left, 0 keeps none."""
    step_target_s: float = 0.25
    """The longest gap that prefill may put between two tokens of a running stream."""
    speculation: bool = True
    """Whether sequences guess ahead (see ``engine.drafter``)."""
    queue_limit: int = 1024
    """Choices that may wait; one more is refused."""
    stall_limit_s: float = 60.0
    """A worker that owes an answer and is silent for this long is taken for hung, and replaced."""


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker found out about its model and chose for it."""

    description: str
    """llama.cpp's own short description, such as ``llama ?B Q4_1``."""
    architecture: str
    parameters: int
    file_bytes: int
    context: int
    """Tokens that one request may use, prompt and answer together: the promise of ``/v1/models``."""
    context_trained: int
    parallel: int
    kv_layout: KvLayout
    kv_bytes: int
    kv_tokens: int = 0
    """Tokens that all requests hold together; 0 is a fact not told."""
    kv_reason: str = ""
    """Why this layout was chosen."""
    threads: int
    threads_reason: str
    backend: str
    """The device that computes, such as ``CPU (AVX512, ...)`` or ``Metal``."""
    vocabulary: int
    has_chat_template: bool
    build: str
    """Version of llama-cpp-python; with the file it decides the answers."""
    load_s: float


class EngineStats(msgspec.Struct, array_like=True):
    """Figures of one engine. Totals count since the engine was made and survive restarts of its worker."""

    running: int = 0
    """Choices in prefill or decode."""
    waiting: int = 0
    kv_tokens: int = 0
    kv_capacity_tokens: int = 0
    steps_total: int = 0
    prompt_tokens_total: int = 0
    cached_prompt_tokens_total: int = 0
    generation_tokens_total: int = 0
    draft_tokens_total: int = 0
    accepted_draft_tokens_total: int = 0
    forced_tokens_total: int = 0

    def after(self, earlier: EngineStats) -> EngineStats:
        """These figures, with the totals of ``earlier``, which is over, added."""
        totals = {
            name: getattr(self, name) + getattr(earlier, name)
            for name in self.__struct_fields__
            if name.endswith("_total")
        }
        return msgspec.structs.replace(self, **totals)
