"""The figures of ``GET /metrics``: counted as requests pass, and read from the engines when somebody scrapes.

Names, labels and buckets are an interface: dashboards and alerts are written against them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from engine.errors import NibbleError
from engine.histogram import LATENCY_BOUNDS
from generation.events import Event, Finished, Usage
from routes.openai.errors import is_refusal
from routes.rejections import AUTH, REJECTIONS
from server.download_collector import DownloadCollector
from server.engine_collector import EngineCollector, FiguresPort
from server.request_record import CURRENT, RequestRecord
from server.vllm_collector import VllmCollector
from server.volume_collector import VolumeCollector

MetricT = TypeVar("MetricT", Counter, Histogram)

FIRST_TEXT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 40, 80, 160)
DURATION_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1920)
TOKEN_BUCKETS: Final = tuple(2**power for power in range(18))
UNKNOWN: Final = "unknown"
NO_KEY: Final = "(none)"
"""The label of requests without a key; no key can be named so."""
_REASONS: Final = {"function_call": "tool_calls"}
"""The older shape of the same end."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMetrics(Protocol):
    """What the outermost middleware tells."""

    def http_finished(self, route: str, method: str, status: int, seconds: float) -> None:
        """An answer ended. ``route`` is a template, never a path."""
        ...


class Metrics:
    """Implements ``routes.telemetry.Telemetry``. Owned by the event loop; one per app, own registry."""

    def __init__(
        self,
        models: FiguresPort,
        clock: Callable[[], float] = time.perf_counter,
        *,
        volumes: Mapping[str, Path] | None = None,
        read_downloads: Callable[[], Mapping[str, int]] = dict,
        with_vllm_names: bool = False,
    ) -> None:
        """``volumes`` are directories whose room is told; ``read_downloads`` gives bytes by source, and may block;
        ``with_vllm_names`` tells everything a second time.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._models = models
        self._clock = clock
        self._children: dict[tuple[MetricWrapperBase, tuple[str, ...]], Any] = {}
        self._make_request_metrics()
        self._make_http_metrics()
        self._engines = EngineCollector(models)
        self.registry.register(self._engines)
        self.registry.register(VolumeCollector(volumes or {}))
        self.registry.register(DownloadCollector(read_downloads))
        if with_vllm_names:
            self.registry.register(VllmCollector(self._own_families))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def render(self) -> tuple[bytes, str]:
        """The exposition and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4

    def request_started(self, model: str, operation: str) -> Observation:
        """See ``Telemetry``. What is no registered id is counted as ``unknown``: labels are for ever."""
        return Observation(self, model if self._models.knows(model) else UNKNOWN, operation, self._clock)

    def of(self, metric: MetricT, *labels: str) -> MetricT:
        """The part of ``metric`` with these labels. prometheus-client looks it up anew, six times as slowly."""
        try:
            child: MetricT = self._children[metric, labels]
        except KeyError:
            child = self._children[metric, labels] = metric.labels(*labels)
        return child

    def rejected(self, reason: str) -> None:
        self.of(self.rejections, reason).inc()

    def key_spent(self, key: str, usage: Usage) -> None:
        """What a request has cost its key, as the ledger has it: what was sent before it broke off included."""
        self.of(self.key_tokens, key or NO_KEY, "input").inc(usage.prompt_tokens)
        self.of(self.key_tokens, key or NO_KEY, "output").inc(usage.completion_tokens)

    def http_finished(self, route: str, method: str, status: int, seconds: float) -> None:
        labels = (route, method if method in _METHODS else "other", f"{status // 100}xx")
        self.of(self.http_requests, *labels).inc()
        self.of(self.http_duration, *labels).observe(seconds)

    def _own_families(self) -> Iterator[Metric]:
        yield from self._engines.collect()
        for metric in (self.requests, *self._histograms):
            yield from metric.collect()

    def _make_request_metrics(self) -> None:
        self._histograms: list[Histogram] = []
        self.requests = self._counter(
            "nibble_requests", "Requests that ended.", "model", "operation", "finish_reason"
        )
        self.errors = self._counter(
            "nibble_request_errors", "Requests that ended in an error.", "operation", "code"
        )
        self.rejections = self._counter(
            "nibble_requests_rejected", "Requests turned away before they ran.", "reason"
        )
        self.key_tokens = self._counter("nibble_key_tokens", "Tokens of each API key.", "key", "direction")
        for reason in (*REJECTIONS.values(), AUTH):
            self.rejections.labels(reason)
        self.first_text = self._histogram(
            "nibble_time_to_first_token_seconds",
            "From the request to its first text or call.",
            FIRST_TEXT_BUCKETS,
        )
        self.duration = self._histogram(
            "nibble_request_duration_seconds", "From the request to its last token.", DURATION_BUCKETS
        )
        self.queue = self._histogram("nibble_request_queue_seconds", "Time spent waiting.", DURATION_BUCKETS)
        self.prefill = self._histogram(
            "nibble_request_prefill_seconds", "Time spent on the prompt.", DURATION_BUCKETS
        )
        self.decode = self._histogram(
            "nibble_request_decode_seconds", "Time spent on the answer.", DURATION_BUCKETS
        )
        self.token_time = self._histogram(
            "nibble_request_time_per_output_token_seconds",
            "Mean time of a request's tokens after the first.",
            LATENCY_BOUNDS,
        )
        self.prompt_tokens = self._histogram(
            "nibble_request_prompt_tokens", "Tokens of a request's prompts.", TOKEN_BUCKETS
        )
        self.generation_tokens = self._histogram(
            "nibble_request_generation_tokens", "Tokens of a request's answers.", TOKEN_BUCKETS
        )

    def _make_http_metrics(self) -> None:
        labels = ("route", "method", "status")
        self.http_requests = self._counter("http_requests", "HTTP requests answered.", *labels)
        self.http_duration = Histogram(
            "http_request_duration_seconds",
            "From a request's headers to the end of its answer.",
            labels,
            registry=self.registry,
            buckets=DURATION_BUCKETS,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float]) -> Histogram:
        made = Histogram(name, text, ("model",), registry=self.registry, buckets=tuple(buckets))
        self._histograms.append(made)
        return made


class Observation:
    """Implements ``routes.telemetry.RequestObservation``; also fills the request's line in the log."""

    wants_content = False

    def __init__(self, metrics: Metrics, model: str, operation: str, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._model = model
        self._operation = operation
        self._clock = clock
        self._began = clock()
        # Made in the request's own context; the calls that follow may come from another task.
        self._record = CURRENT.get() or RequestRecord("")
        self._record.model, self._record.operation = model, operation

    def asked(self, request: object) -> None:
        """Figures come of what an answer costs, not of what it is about."""

    def told(self, events: Sequence[Event]) -> None: ...

    def first_text(self) -> None:
        seconds = self._clock() - self._began
        self._metrics.of(self._metrics.first_text, self._model).observe(seconds)
        self._record.first_text_s = seconds

    def finished(self, choices: Sequence[Finished]) -> None:
        """Phases of several choices run side by side, so a request's phase is its longest; tokens add up."""
        metrics, record, model = self._metrics, self._record, self._model
        record.outcome = "ok"
        record.finish_reason = choices[0].reason if choices else "stop"
        record.prompt_tokens = record.cached_tokens = record.completion_tokens = 0
        record.queue_s = record.prefill_s = record.decode_s = 0.0
        for choice in choices:
            usage, timings = choice.usage, choice.timings
            record.prompt_tokens += usage.prompt_tokens
            record.cached_tokens += usage.cached_tokens
            record.completion_tokens += usage.completion_tokens
            record.queue_s = max(record.queue_s, timings.queue_s)
            record.prefill_s = max(record.prefill_s, timings.prefill_s)
            record.decode_s = max(record.decode_s, timings.decode_s)
        reason = _REASONS.get(record.finish_reason, record.finish_reason)
        metrics.of(metrics.requests, model, self._operation, reason).inc()
        metrics.of(metrics.duration, model).observe(self._clock() - self._began)
        metrics.of(metrics.queue, model).observe(record.queue_s)
        metrics.of(metrics.prefill, model).observe(record.prefill_s)
        metrics.of(metrics.decode, model).observe(record.decode_s)
        later = [choice for choice in choices if choice.usage.completion_tokens > 1]
        if tokens := sum(choice.usage.completion_tokens - 1 for choice in later):
            spent_s = sum(choice.timings.decode_s for choice in later)
            metrics.of(metrics.token_time, model).observe(spent_s / tokens)
        metrics.of(metrics.prompt_tokens, model).observe(record.prompt_tokens)
        metrics.of(metrics.generation_tokens, model).observe(record.completion_tokens)

    def failed(self, error: NibbleError) -> None:
        self._record.outcome, self._record.error = "error", error.kind
        # Apart, since alerts ring for errors: whoever runs the server can do nothing about what clients get wrong.
        reason = "refused" if is_refusal(error) else "error"
        self._metrics.of(self._metrics.requests, self._model, self._operation, reason).inc()
        self._metrics.of(self._metrics.errors, self._operation, error.kind).inc()

    def aborted(self) -> None:
        self._record.outcome = "aborted"
        self._metrics.of(self._metrics.requests, self._model, self._operation, "abort").inc()
