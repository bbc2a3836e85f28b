"""What the figures of ``/metrics`` cost under load, as a share of all CPU time of the server.

A server without them differs by less than two rounds of one server do. So each thing that is done for them is
timed by itself, thousands of times, and multiplied by how often a round of 16 streams did it.
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.result import Result
from benchmarks.served import ServedModel
from benchmarks.workload import Workload
from engine.config import EngineStats
from engine.histogram import BATCH_BOUNDS, LATENCY_BOUNDS
from generation.events import Finished, Timings, Usage
from model_registry.card import ModelCard
from model_registry.eviction import EvictionReason
from model_registry.figures import ModelFigures
from server.metrics import Metrics

_GOAL_PERCENT = 1.0
_WORKLOAD = Workload(16, requests_per_client=1)
_SCRAPE_EVERY_S = 10.0
"""As deploy/prometheus does."""
_SCRAPES = 100


def measure_figures(served: ServedModel) -> Result:
    """Engine steps, requests and scrapes of one round, times what each costs, over the CPU time of the round."""
    steps_before, cpu_before_s, began_s = _steps(served), served.cpu_s_of_all, time.monotonic()
    served.measure(_WORKLOAD, seed=1)
    elapsed_s, cpu_s = time.monotonic() - began_s, served.cpu_s_of_all - cpu_before_s
    steps = _steps(served) - steps_before
    requests = _WORKLOAD.clients * _WORKLOAD.requests_per_client
    step_s, request_s, scrape_s = _cost_of_step(), _cost_of_request(), _cost_of_scrape(served)
    spent_s = steps * step_s + requests * request_s + elapsed_s / _SCRAPE_EVERY_S * scrape_s
    percent = spent_s / cpu_s * 100
    return Result(
        "figures for /metrics, 16 clients",
        f"{percent:.2f} % of the server's CPU time",
        f"under {_GOAL_PERCENT:g} %",
        percent < _GOAL_PERCENT,
        f"{step_s * 1e6:.0f} us for each of {steps:.0f} steps, {request_s * 1e6:.0f} us for each of {requests}"
        f" requests, {scrape_s * 1e3:.1f} ms for a scrape every {_SCRAPE_EVERY_S:.0f} s",
        score=_GOAL_PERCENT / max(percent, 0.01),
    )


def _steps(served: ServedModel) -> float:
    with urllib.request.urlopen(f"{served.url}/metrics") as answer:
        text = answer.read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "nibble_step_seconds_count"
    )


def _cost_of_step() -> float:
    """Counting a step of 16 sequences in the worker, and its figures' way into the API process."""
    stats = EngineStats()
    encoder, decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(EngineStats)

    def step() -> None:
        stats.steps_total += 1
        stats.batch_sizes_total.add(16, BATCH_BOUNDS)
        stats.step_seconds_total.add(0.04, LATENCY_BOUNDS)
        for _ in range(16):
            stats.token_gaps_total.add(0.04, LATENCY_BOUNDS)
            stats.generation_tokens_total += 1
        decoder.decode(encoder.encode(stats))

    return _seconds_of(step, 20_000)


def _cost_of_request() -> float:
    """Everything that the API process counts of one request."""
    metrics = Metrics(_NoModels())
    end = Finished(0, "length", Usage(96, 0, 64), Timings(0.01, 0.2, 2.0))

    def request() -> None:
        observation = metrics.request_started("a-model", "completions")
        observation.first_text()
        observation.finished([end])
        metrics.http_finished("/v1/completions", "POST", 200, 2.2)
        metrics.key_spent("a-key", end.usage)

    return _seconds_of(request, 5_000)


def _cost_of_scrape(served: ServedModel) -> float:
    """Of the whole request, by the CPU time of the process."""
    before_s = served.api_cpu_s
    for _ in range(_SCRAPES):
        _fetch(served)
    return (served.api_cpu_s - before_s) / _SCRAPES


def _fetch(served: ServedModel) -> None:
    with urllib.request.urlopen(f"{served.url}/metrics") as answer:
        answer.read()


def _seconds_of(work: Callable[[], None], times: int) -> float:
    work()
    before_s = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - before_s) / times


class _NoModels:
    """Satisfies ``server.engine_collector.FiguresPort``."""

    evictions: Mapping[tuple[str, EvictionReason], int] = MappingProxyType({})

    def knows(self, model_id: str) -> bool:
        return True

    def figures(self) -> Sequence[ModelFigures]:
        return []

    def cards(self) -> Sequence[ModelCard]:
        return []
