"""What an engine is told before it starts, and what it tells once it runs."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.adapter import Adapter
from engine.histogram import BATCH_BOUNDS, LATENCY_BOUNDS, Histogram

KvLayout = Literal["partitioned", "unified"]
KvLayoutChoice = Literal["auto", "partitioned", "unified"]
CacheType = Literal["f16", "q8_0", "q4_0"]
FlashAttention = Literal["auto", "on", "off"]
# fmt: off
ToolFormatChoice = Literal[
    "auto", "general", "hermes", "llama3", "mistral", "mistral_args", "qwen3_coder", "deepseek", "deepseek_v31",
    "gemma", "gemma4", "harmony",
]
# fmt: on
ReasoningChoice = Literal["auto", "none", "think", "magistral", "harmony"]
Pooling = Literal["mean", "cls", "last", "rank"]
"""How the vectors of a text's tokens become one; rank makes a score of them."""
Capability = Literal["chat", "completion", "tools", "adapters", "embedding", "rerank"]

SAVE_LIMIT_S = 3.0
"""Seconds that a worker which is to end may take to save its prefixes to disk."""


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How to serve one model file. None means: measure or derive, and say what was chosen in ``ModelFacts``."""

    model_id: str
    model_path: str
    adapters: tuple[Adapter, ...] = ()
    """LoRA adapters that requests may name."""
    context: int | None = None
    """Tokens that one request may use, prompt and answer together."""
    parallel: int | None = None
    """Requests that run at once."""
    threads: int | None = None
    gpu_layers: int | None = None
    """Layers computed by the GPU; None is all of them where the build has a GPU backend."""
    kv_budget_bytes: int | None = None
    """Memory for the KV cache; None is a share of what the machine or its cgroup has left."""
    kv_most_bytes: int | None = None
    """A bound of that share: what is left may be others' already, which load at the same time or have a budget."""
    kv_layout: KvLayoutChoice = "auto"
    """Whether each request has a buffer of its own or all share a pool; auto follows the budget (memory_plan)."""
    spares_memory: bool = False
    """Whether the weights are more than the memory there is: then they stay mapped from the file, whose pages the
    system drops and reads again, instead of being laid out anew for the fastest kernels; and the KV cache is small."""
    cache_type: CacheType = "f16"
    """Format of keys and values; q8_0 takes about half of f16, q4_0 about a quarter. Both need flash attention."""
    flash_attention: FlashAttention = "auto"
    """auto tries both on a CPU (see ``engine.attention_choice``), and is llama.cpp's own choice elsewhere."""
    prefix_memory_bytes: int | None = None
    """Host memory for prefixes that lost their slots; None is a share of what is left, 0 keeps none."""
    prefix_most_bytes: int | None = None
    """A bound of that share, as ``kv_most_bytes`` is."""
    prefix_disk_bytes: int = 0
    """Disk for prefixes that memory has no room for and that outlive the worker, all models together; 0 uses none."""
    prefix_disk_path: str = ""
    """The directory for them."""
    step_target_s: float = 0.25
    """The longest gap that prefill may put between two tokens of a running stream."""
    embeds: bool = False
    """Whether to make vectors with a model that could generate. Models that can only embed do so in any case."""
    is_matryoshka: bool = False
    """Whether the model was trained so that its vectors may be cut, which few files tell."""
    speculation: bool = True
    """Whether sequences guess ahead (see ``engine.drafter``)."""
    draft_model_path: str | None = None
    """A file with a smaller model of the same vocabulary, which guesses too (see ``engine.draft_model``)."""
    chat_template: str | None = None
    """What to render chats with instead of the file's own template: a name of ``engine.template_choice``, or a path."""
    reasoning_format: ReasoningChoice = "auto"
    """How the model marks its reasoning in what it writes (see ``generation.reasoning``); auto reads its template."""
    tool_format: ToolFormatChoice = "auto"
    """In which notation the model writes tool calls (see ``generation.tools``); auto reads its template."""
    queue_limit: int = 1024
    """Choices that may wait; one more is refused."""
    queue_tokens: int = 1_000_000
    """Tokens that may wait, of prompts and of the answers that may come; more are refused."""
    key_queue_limit: int = 512
    """Choices of one tenant that may wait."""
    key_queue_tokens: int = 500_000
    """Tokens of one tenant that may wait."""
    stall_limit_s: float = 60.0
    """A worker that owes an answer and is silent for this long is taken for hung, and replaced."""
    is_confined: bool = True
    """Whether the worker gives up what it has no need of (see ``engine.confinement``)."""
    load_limit_s: float = 900.0
    """A worker that has not decoded its first token by then is taken for hung, and ended."""


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
    prefix_bytes: int = 0
    """Host memory that prefixes without a slot may take."""
    anonymous_bytes: int = 0
    """What its processes held when it was ready, files that are mapped not counted; 0 is a fact not told."""
    reserved_bytes: int = 0
    """What they may come for beyond that: the cache that is not written yet, and prefixes that are not saved yet."""
    mapped_bytes: int = 0
    """Page cache that is kept for their weights (see ``engine.reserve``)."""
    flash_attention: FlashAttention = "auto"
    """What was chosen; auto is llama.cpp's choice."""
    attention_reason: str = ""
    threads: int
    threads_reason: str
    backend: str
    """The device that computes, such as ``CPU (AVX512, ...)`` or ``Metal``."""
    vocabulary: int
    draft_model: str = ""
    """llama.cpp's description of the model that guesses ahead; empty where there is none."""
    has_chat_template: bool
    """Whether chats can be served."""
    chat_template: str = ""
    """The source of the template that chats are rendered with; empty where there is none."""
    tool_template: str = ""
    """The source of the one for chats with tools, where that is another."""
    chat_template_fault: str = ""
    """Why chats cannot be served."""
    reasoning_format: ReasoningChoice = "auto"
    """As it was configured."""
    capabilities: tuple[Capability, ...] = ("chat", "completion", "tools")
    """What it can be asked for as it is loaded. No model sees pictures here, so there is no word for it."""
    pooling: Pooling | None = None
    embedding_width: int = 0
    """Numbers in a vector; 0 for a model that makes none."""
    tool_format: ToolFormatChoice = "auto"
    """As it was configured."""
    build: str
    """Version of llama-cpp-python; with the file it decides the answers."""
    load_s: float


class EngineStats(msgspec.Struct, array_like=True):
    """Figures of one engine. Totals count since the engine was made and survive restarts of its worker."""

    running: int = 0
    """Choices in prefill or decode."""
    waiting: int = 0
    kv_tokens: int = 0
    """In the KV cache, of running choices: what is only kept for later gives way whenever it has to."""
    kv_capacity_tokens: int = 0
    steps_total: int = 0
    prompt_tokens_total: int = 0
    cached_prompt_tokens_total: int = 0
    generation_tokens_total: int = 0
    draft_tokens_total: int = 0
    accepted_draft_tokens_total: int = 0
    forced_tokens_total: int = 0
    disk_prefixes_read_total: int = 0
    """Prefixes read from disk, their bytes, and the bytes written."""
    disk_read_bytes_total: int = 0
    disk_written_bytes_total: int = 0
    prefix_queried_tokens_total: int = 0
    """Tokens of prompts that were looked up in the prefix cache, those of every choice, and how many were there."""
    prefix_hit_tokens_total: int = 0
    batch_sizes_total: Histogram = msgspec.field(default_factory=Histogram.maker(BATCH_BOUNDS))
    """Sequences of a step."""
    step_seconds_total: Histogram = msgspec.field(default_factory=Histogram.maker(LATENCY_BOUNDS))
    """The computing of a step, drafts and transfers included."""
    token_gaps_total: Histogram = msgspec.field(default_factory=Histogram.maker(LATENCY_BOUNDS))
    """Seconds between two steps that brought tokens for one answer."""

    def after(self, earlier: EngineStats) -> EngineStats:
        """These figures, with the totals of ``earlier``, which is over, added."""
        totals = {
            name: getattr(self, name) + getattr(earlier, name)
            for name in self.__struct_fields__
            if name.endswith("_total")
        }
        return msgspec.structs.replace(self, **totals)
