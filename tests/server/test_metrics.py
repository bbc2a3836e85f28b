from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.config import EngineStats
from engine.errors import ContextLengthExceeded, QueueFull
from generation.events import Finished, Timings, Usage
from model_registry.card import ModelCard
from model_registry.figures import ModelFigures
from server.metrics import DURATION_BUCKETS, FIRST_TEXT_BUCKETS, TOKEN_BUCKETS, Metrics
from server.request_record import CURRENT, RequestRecord
from tests.fakes.registry import card

MODEL = "alpha"


@dataclass
class Models:
    """Satisfies ``FiguresPort``."""

    known: list[ModelFigures] = field(
        default_factory=lambda: [
            ModelFigures(
                id=MODEL,
                state="ready",
                stats=EngineStats(
                    running=3,
                    waiting=2,
                    kv_tokens=250,
                    kv_capacity_tokens=1000,
                    prompt_tokens_total=700,
                    cached_prompt_tokens_total=300,
                    generation_tokens_total=90,
                ),
                restarts=4,
                load_s=0.75,
            ),
            ModelFigures(id="beta", state="registered"),
        ]
    )

    def knows(self, model_id: str) -> bool:
        return any(figure.id == model_id for figure in self.known)

    def figures(self) -> Sequence[ModelFigures]:
        return self.known

    def cards(self) -> Sequence[ModelCard]:
        return [card(MODEL)]


Sample = tuple[str, ...]


class House:
    def __init__(self) -> None:
        self.now = 10.0
        self.models = Models()
        self.metrics = Metrics(self.models, clock=lambda: self.now)

    def samples(self) -> dict[Sample, float]:
        """Every sample of the exposition: (name, label=value, ...) -> value."""
        content, content_type = self.metrics.render()
        assert content_type.startswith("text/plain; version=0.0.4")
        return {
            (sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(content.decode())
            for sample in family.samples
        }


def finished(choice: int, reason: str, usage: Usage, timings: Timings) -> Finished:
    return Finished(choice, "length" if reason == "length" else "stop", usage, timings)


def test_a_finished_request() -> None:
    house = House()
    observation = house.metrics.request_started(MODEL, "chat")
    house.now += 0.3
    observation.first_text()
    house.now += 1.7
    observation.finished(
        [
            finished(0, "length", Usage(12, 8, 20), Timings(0.1, 0.2, 1.5)),
            finished(1, "stop", Usage(0, 0, 10), Timings(0.05, 0.2, 1.7)),
        ]
    )
    samples = house.samples()
    model = f"model={MODEL}"
    assert samples["nibble_requests_total", "finish_reason=length", model, "operation=chat"] == 1
    for name, value in {
        "nibble_time_to_first_token_seconds": 0.3,
        "nibble_request_duration_seconds": 2.0,
        "nibble_request_queue_seconds": 0.1,
        "nibble_request_prefill_seconds": 0.2,
        "nibble_request_decode_seconds": 1.7,
        "nibble_request_prompt_tokens": 12,
        "nibble_request_generation_tokens": 30,
    }.items():
        assert samples[f"{name}_count", model] == 1, name
        assert samples[f"{name}_sum", model] == pytest.approx(value), name


def test_failures_aborts_and_rejections() -> None:
    house = House()
    house.metrics.request_started(MODEL, "chat").failed(QueueFull("full"))
    house.metrics.rejected("queue_full")
    house.metrics.request_started(MODEL, "completions").failed(ContextLengthExceeded("long"))
    house.metrics.request_started(MODEL, "chat").aborted()
    samples = house.samples()
    model = f"model={MODEL}"
    assert samples["nibble_requests_total", "finish_reason=error", model, "operation=chat"] == 1
    assert samples["nibble_requests_total", "finish_reason=abort", model, "operation=chat"] == 1
    assert samples["nibble_request_errors_total", "code=queue_full", "operation=chat"] == 1
    assert (
        samples["nibble_request_errors_total", "code=context_length_exceeded", "operation=completions"] == 1
    )
    assert samples["nibble_requests_rejected_total", "reason=queue_full"] == 1
    assert samples["nibble_requests_rejected_total", "reason=context"] == 0, "known reasons begin at zero"


def test_what_strangers_send_never_becomes_a_label() -> None:
    house = House()
    for number in range(50):
        house.metrics.request_started(f"guess-{number}", "chat").aborted()
        house.metrics.http_finished("unmatched", f"VERB{number}", 404, 0.001)
    keys = house.samples()
    assert sum(key[0] == "nibble_requests_total" for key in keys) == 1
    assert keys["nibble_requests_total", "finish_reason=abort", "model=unknown", "operation=chat"] == 50
    assert sum(key[0] == "http_requests_total" for key in keys) == 1
    assert keys["http_requests_total", "method=other", "route=unmatched", "status=4xx"] == 50


def test_figures_of_the_engines_are_read_at_the_scrape() -> None:
    house = House()
    samples = house.samples()
    model = f"model={MODEL}"
    assert samples["nibble_requests_running", model] == 3
    assert samples["nibble_requests_waiting", model] == 2
    assert samples["nibble_kv_cache_usage_ratio", model] == 0.25
    assert samples["nibble_prompt_tokens_total", model] == 700
    assert samples["nibble_cached_prompt_tokens_total", model] == 300
    assert samples["nibble_generation_tokens_total", model] == 90
    assert samples["nibble_worker_restarts_total", model, "reason=died"] == 4
    assert samples["nibble_model_load_seconds", model] == 0.75
    assert samples["nibble_model_state", model, "state=ready"] == 1
    assert samples["nibble_model_state", model, "state=failed"] == 0
    assert samples["nibble_model_state", "model=beta", "state=registered"] == 1
    assert ("nibble_requests_running", "model=beta") not in samples
    stats = house.models.known[0].stats
    assert stats is not None
    stats.running = 1
    assert house.samples()["nibble_requests_running", model] == 1


def test_an_engine_without_a_cache_uses_none_of_it() -> None:
    house = House()
    house.models.known = [ModelFigures(id=MODEL, state="ready", stats=EngineStats())]
    assert house.samples()["nibble_kv_cache_usage_ratio", f"model={MODEL}"] == 0


def test_buckets_are_those_that_alerts_name() -> None:
    house = House()
    observation = house.metrics.request_started(MODEL, "chat")
    observation.first_text()
    observation.finished([finished(0, "stop", Usage(1, 0, 1), Timings())])
    bounds: dict[str, list[float]] = {}
    for key in house.samples():
        if key[0].endswith("_bucket") and key[0].startswith("nibble"):
            bounds.setdefault(key[0], []).append(float(key[1].removeprefix("le=")))
    inf = float("inf")
    assert bounds.pop("nibble_time_to_first_token_seconds_bucket") == [*FIRST_TEXT_BUCKETS, inf]
    assert bounds.pop("nibble_request_prompt_tokens_bucket") == [*TOKEN_BUCKETS, inf]
    assert bounds.pop("nibble_request_generation_tokens_bucket") == [*TOKEN_BUCKETS, inf]
    assert TOKEN_BUCKETS[-1] == 131072
    assert len(bounds) == 4
    assert all(found == [*DURATION_BUCKETS, inf] for found in bounds.values())


def test_every_name_has_a_help_text_and_no_created_series() -> None:
    house = House()
    house.metrics.request_started(MODEL, "chat").finished([finished(0, "stop", Usage(1, 0, 1), Timings())])
    house.metrics.http_finished("/x", "GET", 200, 0.1)
    families = list(text_string_to_metric_families(house.metrics.render()[0].decode()))
    assert all(family.documentation for family in families)
    assert not any(sample.name.endswith("_created") for family in families for sample in family.samples)
    build = next(family for family in families if family.name == "nibble_build_info")
    assert build.samples[0].labels.keys() == {"version", "llama_cpp", "cpu"}


def test_two_apps_do_not_share_figures() -> None:
    one, other = House(), House()
    one.metrics.request_started(MODEL, "chat").aborted()
    assert not any(key[0] == "nibble_requests_total" for key in other.samples())


def test_the_log_line_of_the_request_learns_the_same_figures() -> None:
    house = House()
    record = RequestRecord("req_1")
    token = CURRENT.set(record)
    observation = house.metrics.request_started(MODEL, "chat")
    CURRENT.reset(token)
    house.now += 0.25
    observation.first_text()
    observation.finished([finished(0, "stop", Usage(5, 2, 7), Timings(0.1, 0.2, 0.3))])
    assert record.known() == {
        "request_id": "req_1",
        "model": MODEL,
        "operation": "chat",
        "outcome": "ok",
        "finish_reason": "stop",
        "prompt_tokens": 5,
        "cached_tokens": 2,
        "completion_tokens": 7,
        "first_text_s": 0.25,
        "queue_s": 0.1,
        "prefill_s": 0.2,
        "decode_s": 0.3,
    }
    failed = RequestRecord("req_2")
    token = CURRENT.set(failed)
    house.metrics.request_started(MODEL, "chat").failed(QueueFull("full"))
    CURRENT.reset(token)
    assert failed.known()["outcome"] == "error"
    assert failed.known()["error"] == "queue_full"
