"""Figures that live in the engines: read when somebody scrapes, so nobody keeps them up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.config import EngineStats
from model_registry.card import ModelCard
from model_registry.figures import ModelFigures
from model_registry.state import STATES
from server.version import version_of


class FiguresPort(Protocol):
    """The registry as the metrics see it."""

    def knows(self, model_id: str) -> bool: ...

    def figures(self) -> Sequence[ModelFigures]: ...

    def cards(self) -> Sequence[ModelCard]: ...


class EngineCollector(Collector):
    """Called on the event loop, by ``Metrics.render``. Looking at a model does not count as using it."""

    def __init__(self, models: FiguresPort) -> None:
        self._models = models
        self._build = {"version": version_of(), "llama_cpp": version_of("llama-cpp-python")}

    def collect(self) -> Iterator[Metric]:
        figures = self._models.figures()
        loaded = [(figure.id, figure.stats) for figure in figures if figure.stats is not None]

        def gauge(name: str, text: str, value: Callable[[EngineStats], float]) -> Metric:
            return _family(GaugeMetricFamily, name, text, ((model, value(stats)) for model, stats in loaded))

        def counter(name: str, text: str, value: Callable[[EngineStats], float]) -> Metric:
            return _family(
                CounterMetricFamily, name, text, ((model, value(stats)) for model, stats in loaded)
            )

        yield gauge("nibble_requests_running", "Answers in prefill or decode.", lambda stats: stats.running)
        yield gauge("nibble_requests_waiting", "Answers that wait for a place.", lambda stats: stats.waiting)
        yield gauge("nibble_kv_cache_usage_ratio", "Used share of the KV cache, 0 to 1.", _kv_ratio)
        yield counter("nibble_prompt_tokens", "Tokens of prompts.", lambda stats: stats.prompt_tokens_total)
        yield counter(
            "nibble_cached_prompt_tokens",
            "Tokens of prompts that were in the cache.",
            lambda stats: stats.cached_prompt_tokens_total,
        )
        yield counter(
            "nibble_generation_tokens", "Tokens generated.", lambda stats: stats.generation_tokens_total
        )
        yield _states(figures)
        yield _family(
            GaugeMetricFamily,
            "nibble_model_load_seconds",
            "How long the model's last load took.",
            ((figure.id, figure.load_s) for figure in figures if figure.load_s is not None),
        )
        restarts = CounterMetricFamily(
            "nibble_worker_restarts", "Times that a model's worker was replaced.", labels=("model", "reason")
        )
        for figure in figures:
            if figure.stats is not None:
                restarts.add_metric((figure.id, "died"), figure.restarts)
        yield restarts
        yield InfoMetricFamily("nibble_build", "What is running.", value={**self._build, "cpu": self._cpu()})

    def _cpu(self) -> str:
        """What the worker says it computes with; empty until a model was loaded."""
        return next((card.facts.backend for card in self._models.cards() if card.facts), "")


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


def _kv_ratio(stats: EngineStats) -> float:
    return stats.kv_tokens / stats.kv_capacity_tokens if stats.kv_capacity_tokens else 0.0


def _states(figures: Sequence[ModelFigures]) -> Metric:
    family = GaugeMetricFamily(
        "nibble_model_state", "1 for the state that the model is in.", labels=("model", "state")
    )
    for figure in figures:
        for state in STATES:
            family.add_metric((figure.id, state), float(figure.state == state))
    return family
