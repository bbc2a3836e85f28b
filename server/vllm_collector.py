"""The same figures under vLLM's names, for dashboards and autoscalers that were made for vLLM.

The names are those of vLLM's metrics documentation (https://docs.vllm.ai/en/latest/design/metrics.html); what has
no counterpart here is left out. Buckets are ours: whoever computes quantiles reads them from the figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

TWINS: Final = {
    "nibble_requests_running": "vllm:num_requests_running",
    "nibble_requests_waiting": "vllm:num_requests_waiting",
    "nibble_kv_cache_usage_ratio": "vllm:kv_cache_usage_perc",
    "nibble_prefix_cache_queried_tokens": "vllm:prefix_cache_queries",
    "nibble_prefix_cache_hit_tokens": "vllm:prefix_cache_hits",
    "nibble_prompt_tokens": "vllm:prompt_tokens",
    "nibble_generation_tokens": "vllm:generation_tokens",
    "nibble_time_to_first_token_seconds": "vllm:time_to_first_token_seconds",
    "nibble_inter_token_latency_seconds": "vllm:inter_token_latency_seconds",
    "nibble_request_time_per_output_token_seconds": "vllm:request_time_per_output_token_seconds",
    "nibble_request_duration_seconds": "vllm:e2e_request_latency_seconds",
    "nibble_request_queue_seconds": "vllm:request_queue_time_seconds",
    "nibble_request_prefill_seconds": "vllm:request_prefill_time_seconds",
    "nibble_request_decode_seconds": "vllm:request_decode_time_seconds",
    "nibble_request_prompt_tokens": "vllm:request_prompt_tokens",
    "nibble_request_generation_tokens": "vllm:request_generation_tokens",
    "nibble_draft_tokens": "vllm:spec_decode_num_draft_tokens",
    "nibble_accepted_draft_tokens": "vllm:spec_decode_num_accepted_tokens",
}
_REASONS: Final = {"tool_calls": "stop"}
"""vLLM's finish reasons are the engine's own, which knows no tools."""


class VllmCollector(Collector):
    """Called on the event loop. ``families`` are our own figures, read anew at each call."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families():
            if family.name == "nibble_requests":
                yield _successes(family)
            elif twin := TWINS.get(family.name):
                yield _renamed(family, twin)


def _renamed(family: Metric, name: str) -> Metric:
    twin = Metric(name, family.documentation, family.type)
    for sample in family.samples:
        labels = {"model_name" if key == "model" else key: value for key, value in sample.labels.items()}
        twin.add_sample(name + sample.name.removeprefix(family.name), labels, sample.value)
    return twin


def _successes(requests: Metric) -> Metric:
    ended: Counter[tuple[str, str]] = Counter()
    for sample in requests.samples:
        reason = sample.labels["finish_reason"]
        if reason == "refused":
            continue  # which vLLM counts nowhere
        ended[sample.labels["model"], _REASONS.get(reason, reason)] += int(sample.value)
    twin = CounterMetricFamily(
        "vllm:request_success", requests.documentation, labels=("model_name", "finished_reason")
    )
    for labels, count in ended.items():
        twin.add_metric(labels, count)
    return twin
