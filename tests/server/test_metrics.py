from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.config import EngineStats
from engine.errors import ContextLengthExceeded, QueueFull
from engine.histogram import BATCH_BOUNDS, LATENCY_BOUNDS
from generation.events import Finished, Timings, Usage
from model_registry.card import ModelCard
from model_registry.eviction import EvictionReason
from model_registry.figures import ModelFigures
from server.metrics import DURATION_BUCKETS, FIRST_TEXT_BUCKETS, TOKEN_BUCKETS, Metrics
from server.request_record import CURRENT, RequestRecord
from server.vllm_collector import TWINS
from tests.end_to_end.patience import eventually
from tests.fakes.engine import FakeEngine, answer
from tests.fakes.house import CHAT_BODY, CHAT_PATH
from tests.fakes.house import House as RoutesHouse
from tests.fakes.registry import card

MODEL = "alpha"
FIRST_TOKEN = "nibble_time_to_first_token_seconds"


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
                stalls=1,
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

    @property
    def evictions(self) -> Mapping[tuple[str, EvictionReason], int]:
        return {(MODEL, "idle"): 6}


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
        "nibble_request_time_per_output_token_seconds": 3.2 / 28,
        "nibble_request_prompt_tokens": 12,
        "nibble_request_generation_tokens": 30,
    }.items():
        assert samples[f"{name}_count", model] == 1, name
        assert samples[f"{name}_sum", model] == pytest.approx(value), name


async def test_an_answer_that_is_a_call_has_a_first_token() -> None:
    house = House()
    routes = RoutesHouse(FakeEngine(answer('<tool_call>{"name": "look"', ', "arguments": {}}')))
    routes.engine.facts = msgspec.structs.replace(routes.engine.facts, tool_format="hermes")
    routes.services.telemetry = house.metrics
    tools = [{"type": "function", "function": {"name": "look"}}]
    reply = await routes.post(CHAT_PATH, CHAT_BODY | {"tools": tools})
    assert reply.json()["choices"][0]["message"]["content"] is None
    counts = [value for key, value in house.samples().items() if key[0] == f"{FIRST_TOKEN}_count"]
    assert sum(counts) == 1


def test_failures_aborts_and_rejections() -> None:
    house = House()
    house.metrics.request_started(MODEL, "chat").failed(QueueFull("full"))
    house.metrics.rejected("queue_full")
    house.metrics.request_started(MODEL, "completions").failed(ContextLengthExceeded("long"))
    house.metrics.request_started(MODEL, "chat").aborted()
    samples = house.samples()
    model = f"model={MODEL}"
    assert samples["nibble_requests_total", "finish_reason=error", model, "operation=chat"] == 1
    # Alerts ring for errors, and a client that asks for too much is none of the server's.
    assert samples["nibble_requests_total", "finish_reason=refused", model, "operation=completions"] == 1
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
    assert samples["nibble_worker_restarts_total", model, "reason=died"] == 3
    assert samples["nibble_worker_restarts_total", model, "reason=stalled"] == 1
    assert samples["nibble_model_evictions_total", model, "reason=idle"] == 6
    assert samples["nibble_model_evictions_total", "model=beta", "reason=memory"] == 0, "all begin at zero"
    assert samples["nibble_model_load_seconds", model] == 0.75
    assert samples["nibble_model_state", model, "state=ready"] == 1
    assert samples["nibble_model_state", model, "state=failed"] == 0
    assert samples["nibble_model_state", "model=beta", "state=registered"] == 1
    assert ("nibble_requests_running", "model=beta") not in samples
    stats = house.models.known[0].stats
    assert stats is not None
    stats.running = 1
    assert house.samples()["nibble_requests_running", model] == 1


def test_totals_of_a_model_that_was_unloaded_stay() -> None:
    house = House()
    house.models.known[0] = msgspec.structs.replace(house.models.known[0], state="unloaded", is_loaded=False)
    samples = house.samples()
    model = f"model={MODEL}"
    assert samples["nibble_generation_tokens_total", model] == 90
    assert samples["nibble_step_seconds_count", model] == 0
    assert samples["nibble_worker_restarts_total", model, "reason=died"] == 3
    assert samples["nibble_worker_restarts_total", model, "reason=stalled"] == 1
    assert ("nibble_requests_running", model) not in samples, "what is not loaded runs nothing"
    assert ("nibble_model_bytes", model, "part=weights") not in samples


def test_keys_are_charged_what_the_ledger_has() -> None:
    house = House()
    house.metrics.key_spent("alice", Usage(12, 8, 20))
    house.metrics.key_spent("alice", Usage(1, 0, 2))
    house.metrics.key_spent("", Usage(3, 0, 4))
    samples = house.samples()
    assert samples["nibble_key_tokens_total", "direction=input", "key=alice"] == 13
    assert samples["nibble_key_tokens_total", "direction=output", "key=alice"] == 22
    assert samples["nibble_key_tokens_total", "direction=output", "key=(none)"] == 4


def test_an_answer_that_ends_in_a_call_ends_so_in_either_shape() -> None:
    house = House()
    for reason in ("tool_calls", "function_call"):
        house.metrics.request_started(MODEL, "chat").finished([Finished(0, reason, Usage())])
    ended = house.samples()[
        "nibble_requests_total", "finish_reason=tool_calls", f"model={MODEL}", "operation=chat"
    ]
    assert ended == 2


def test_what_was_downloaded_is_told_late_and_waits_for_no_disk() -> None:
    gate, looks = Event(), [{"hf": 7}, {"hf": 9}]

    def read() -> dict[str, int]:
        if len(looks) == 1:
            gate.wait()
        return looks.pop(0)

    metrics = Metrics(Models(), read_downloads=read)

    def told() -> list[float]:
        families = text_string_to_metric_families(metrics.render()[0].decode())
        (family,) = [family for family in families if family.name == "nibble_download_bytes"]
        return [sample.value for sample in family.samples if sample.labels["source"] in ("hf", "pypi")]

    assert told() == told() == [7, 0]
    looks.append({"hf": 9})
    gate.set()
    eventually(told, lambda seen: seen == [9, 0], "the next look is told")


def test_what_the_engine_counted_by_bucket_is_told_cumulatively() -> None:
    house = House()
    stats = house.models.known[0].stats
    assert stats is not None
    for gap_s in (0.001, 0.02, 0.021, 7.0):
        stats.token_gaps_total.add(gap_s, LATENCY_BOUNDS)
    samples = house.samples()
    name, model = "nibble_inter_token_latency_seconds", f"model={MODEL}"
    assert samples[f"{name}_bucket", "le=0.001", model] == 1
    assert samples[f"{name}_bucket", "le=0.01", model] == 1
    assert samples[f"{name}_bucket", "le=0.025", model] == 3
    assert samples[f"{name}_bucket", "le=5.0", model] == 3
    assert samples[f"{name}_bucket", "le=+Inf", model] == samples[f"{name}_count", model] == 4
    assert samples[f"{name}_sum", model] == pytest.approx(7.042)
    assert samples["nibble_batch_size_count", model] == 0


def test_vllm_names_are_told_only_when_asked_for_and_say_the_same(tmp_path: Path) -> None:
    house = House()
    assert not any(key[0].startswith("vllm:") for key in house.samples())
    house.metrics = Metrics(house.models, clock=lambda: house.now, with_vllm_names=True)
    for operation, reason in (("chat", "stop"), ("completions", "stop"), ("chat", "length")):
        observation = house.metrics.request_started(MODEL, operation)
        observation.first_text()
        observation.finished([finished(0, reason, Usage(3, 0, 2), Timings(0.1, 0.2, 0.3))])
    house.metrics.request_started(MODEL, "chat").failed(ContextLengthExceeded("long"))
    samples = house.samples()
    families = {family.name for family in house.metrics.registry.collect()}
    assert families >= {*TWINS.keys(), *TWINS.values()}, "a name that is mapped is none of ours"
    for ours, theirs in TWINS.items():
        of_ours = {
            tuple(part.replace("model=", "model_name=", 1) for part in key[1:]): (key[0][len(ours) :], value)
            for key, value in samples.items()
            if key[0].startswith(ours) and key[0][len(ours) :] in ("", "_total", "_sum", "_count", "_bucket")
        }
        of_theirs = {
            key[1:]: (key[0][len(theirs) :], value)
            for key, value in samples.items()
            if key[0].startswith(theirs)
            and key[0][len(theirs) :] in ("", "_total", "_sum", "_count", "_bucket")
        }
        assert of_ours, ours
        assert of_ours == of_theirs
    model = f"model_name={MODEL}"
    assert not any("finished_reason=refused" in key for key in samples), "vLLM counts none that it refused"
    assert samples["vllm:request_success_total", "finished_reason=stop", model] == 2
    assert samples["vllm:request_success_total", "finished_reason=length", model] == 1


def test_room_on_volumes(tmp_path: Path) -> None:
    metrics = Metrics(Models(), volumes={"data": tmp_path, "models": tmp_path / "missing"})
    families = {
        family.name: family for family in text_string_to_metric_families(metrics.render()[0].decode())
    }
    (size,) = families["nibble_volume_size_bytes"].samples
    (free,) = families["nibble_volume_free_bytes"].samples
    assert size.labels == free.labels == {"volume": "data"}
    assert 0 < free.value <= size.value


def test_an_engine_without_a_cache_uses_none_of_it() -> None:
    house = House()
    house.models.known = [ModelFigures(id=MODEL, state="ready", stats=EngineStats())]
    assert house.samples()["nibble_kv_cache_usage_ratio", f"model={MODEL}"] == 0


def test_buckets_are_those_that_alerts_name() -> None:
    house = House()
    observation = house.metrics.request_started(MODEL, "chat")
    observation.first_text()
    observation.finished([finished(0, "stop", Usage(1, 0, 2), Timings())])
    bounds: dict[str, list[float]] = {}
    for key in house.samples():
        if key[0].endswith("_bucket") and key[0].startswith("nibble"):
            bounds.setdefault(key[0], []).append(float(key[1].removeprefix("le=")))
    inf = float("inf")
    assert bounds.pop("nibble_time_to_first_token_seconds_bucket") == [*FIRST_TEXT_BUCKETS, inf]
    assert bounds.pop("nibble_request_prompt_tokens_bucket") == [*TOKEN_BUCKETS, inf]
    assert bounds.pop("nibble_request_generation_tokens_bucket") == [*TOKEN_BUCKETS, inf]
    assert TOKEN_BUCKETS[-1] == 131072
    for name in ("inter_token_latency_seconds", "step_seconds", "request_time_per_output_token_seconds"):
        assert bounds.pop(f"nibble_{name}_bucket") == [*LATENCY_BOUNDS, inf]
    assert bounds.pop("nibble_batch_size_bucket") == [*BATCH_BOUNDS, inf]
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
