"""Figures that live in the engines: read when somebody scrapes, so nobody keeps them up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from engine.config import EngineStats
from engine.histogram import BATCH_BOUNDS, LATENCY_BOUNDS, Histogram
from model_registry.card import ModelCard
from model_registry.eviction import EVICTION_REASONS, EvictionReason
from model_registry.figures import ModelFigures
from model_registry.state import STATES
from server.version import version_of


class FiguresPort(Protocol):
    """The registry as the metrics see it."""

    def knows(self, model_id: str) -> bool: ...

    def figures(self) -> Sequence[ModelFigures]: ...

    def cards(self) -> Sequence[ModelCard]: ...

    @property
    def evictions(self) -> Mapping[tuple[str, EvictionReason], int]: ...


def _kv_ratio(stats: EngineStats) -> float:
    return stats.kv_tokens / stats.kv_capacity_tokens if stats.kv_capacity_tokens else 0.0


_GAUGES: Final[tuple[tuple[str, str, Callable[[EngineStats], float]], ...]] = (
    ("nibble_requests_running", "Answers in prefill or decode.", lambda stats: stats.running),
    ("nibble_requests_waiting", "Answers that wait for a place.", lambda stats: stats.waiting),
    ("nibble_kv_cache_usage_ratio", "Share of the KV cache that running answers hold, 0 to 1.", _kv_ratio),
)
# Name, help text, and the field of EngineStats without its "_total".
_COUNTERS: Final = (
    ("nibble_prompt_tokens", "Tokens of prompts.", "prompt_tokens"),
    ("nibble_cached_prompt_tokens", "Tokens of prompts that were in the cache.", "cached_prompt_tokens"),
    ("nibble_generation_tokens", "Tokens generated.", "generation_tokens"),
    (
        "nibble_prefix_cache_queried_tokens",
        "Tokens looked up in the prefix cache, for every choice.",
        "prefix_queried_tokens",
    ),
    ("nibble_prefix_cache_hit_tokens", "Tokens found in the prefix cache.", "prefix_hit_tokens"),
    ("nibble_draft_tokens", "Tokens guessed ahead.", "draft_tokens"),
    ("nibble_accepted_draft_tokens", "Guesses that came true.", "accepted_draft_tokens"),
    ("nibble_forced_tokens", "Tokens that a constraint left no choice about.", "forced_tokens"),
    ("nibble_disk_prefixes_read", "Prefixes read from disk instead of computed.", "disk_prefixes_read"),
    ("nibble_disk_prefix_read_bytes", "Bytes of prefixes read from disk.", "disk_read_bytes"),
    ("nibble_disk_prefix_written_bytes", "Bytes of prefixes written to disk.", "disk_written_bytes"),
)
_HISTOGRAMS: Final[tuple[tuple[str, str, str, tuple[float, ...]], ...]] = (
    (
        "nibble_inter_token_latency_seconds",
        "Between two steps that brought tokens for one answer.",
        "token_gaps",
        LATENCY_BOUNDS,
    ),
    ("nibble_step_seconds", "The computing of one engine step.", "step_seconds", LATENCY_BOUNDS),
    ("nibble_batch_size", "Sequences that one engine step computed.", "batch_sizes", BATCH_BOUNDS),
)


class EngineCollector(Collector):
    """Called on the event loop, by ``Metrics.render``. Looking at a model does not count as using it."""

    def __init__(self, models: FiguresPort) -> None:
        self._models = models
        self._build = {"version": version_of(), "llama_cpp": version_of("llama-cpp-python")}

    def collect(self) -> Iterator[Metric]:
        figures = self._models.figures()
        counted = [(figure.id, figure.stats) for figure in figures if figure.stats is not None]
        is_loaded = {figure.id for figure in figures if figure.is_loaded}
        loaded = [(model, stats) for model, stats in counted if model in is_loaded]
        for name, text, value in _GAUGES:
            values = ((model, value(stats)) for model, stats in loaded)
            yield _family(GaugeMetricFamily, name, text, values)
        for name, text, field in _COUNTERS:
            values = ((model, getattr(stats, f"{field}_total")) for model, stats in counted)
            yield _family(CounterMetricFamily, name, text, values)
        for name, text, field, bounds in _HISTOGRAMS:
            histograms = ((model, getattr(stats, f"{field}_total")) for model, stats in counted)
            yield _histogram(name, text, bounds, histograms)
        yield _states(figures)
        yield _family(
            GaugeMetricFamily,
            "nibble_model_load_seconds",
            "How long the model's last load took.",
            ((figure.id, figure.load_s) for figure in figures if figure.load_s is not None),
        )
        cards = self._models.cards()
        yield _sizes([card for card in cards if any(card.id == model for model, _ in loaded)])
        restarts = CounterMetricFamily(
            "nibble_worker_restarts", "Times that a model's worker was replaced.", labels=("model", "reason")
        )
        for figure in figures:
            if figure.stats is not None:
                restarts.add_metric((figure.id, "died"), figure.restarts - figure.stalls)
                restarts.add_metric((figure.id, "stalled"), figure.stalls)
        yield restarts
        yield _evictions(figures, self._models.evictions)
        # What the worker says it computes with; empty until a model was loaded.
        cpu = next((card.facts.backend for card in cards if card.facts), "")
        yield InfoMetricFamily("nibble_build", "What is running.", value={**self._build, "cpu": cpu})


def _family(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    name: str,
    text: str,
    values: Iterable[tuple[str, float]],
) -> Metric:
    family = kind(name, text, labels=("model",))
    for model, value in values:
        family.add_metric((model,), value)
    return family


def _histogram(
    name: str, text: str, bounds: tuple[float, ...], values: Iterable[tuple[str, Histogram]]
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=("model",))
    limits = [*(str(float(bound)) for bound in bounds), "+Inf"]
    for model, histogram in values:
        family.add_metric(
            (model,),
            buckets=list(zip(limits, accumulate(histogram.counts), strict=True)),
            sum_value=histogram.total,
        )
    return family


def _sizes(cards: Sequence[ModelCard]) -> Metric:
    family = GaugeMetricFamily(
        "nibble_model_bytes", "Memory that a loaded model was given.", labels=("model", "part")
    )
    for card in cards:
        if card.facts is not None:
            family.add_metric((card.id, "weights"), card.facts.file_bytes)
            family.add_metric((card.id, "kv_cache"), card.facts.kv_bytes)
    return family


def _evictions(
    figures: Sequence[ModelFigures], evictions: Mapping[tuple[str, EvictionReason], int]
) -> Metric:
    family = CounterMetricFamily(
        "nibble_model_evictions", "Times that a model was unloaded by itself.", labels=("model", "reason")
    )
    for figure in figures:
        for reason in EVICTION_REASONS:
            family.add_metric((figure.id, reason), evictions.get((figure.id, reason), 0))
    return family


def _states(figures: Sequence[ModelFigures]) -> Metric:
    family = GaugeMetricFamily(
        "nibble_model_state", "1 for the state that the model is in.", labels=("model", "state")
    )
    for figure in figures:
        for state in STATES:
            family.add_metric((figure.id, state), float(figure.state == state))
    return family
