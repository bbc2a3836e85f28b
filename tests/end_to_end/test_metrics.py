"""What Prometheus reads off a server under load: every expression has an answer, and it is what the clients counted."""

from __future__ import annotations

import math
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dashboard
import pytest

from server.vllm_collector import TWINS
from tests.deploy.files import DEPLOY, read_yaml
from tests.end_to_end.live_server import MODEL, LiveServer
from tests.end_to_end.patience import eventually
from tests.end_to_end.prometheus import Prometheus

pytestmark = pytest.mark.model

WIDTH = 4
RULES = read_yaml(DEPLOY / "prometheus" / "alerts.yml")["groups"][0]["rules"]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    home = tmp_path_factory.mktemp("watched")
    with LiveServer(home, "--context", "512", "--parallel", str(WIDTH), "--vllm-metrics") as running:
        yield running.ready()


@pytest.fixture(scope="module")
def prometheus(watched: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with Prometheus(tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{watched.port}") as running:
        yield running


class Clients:
    """Ask, and keep account of what they were told."""

    def __init__(self, server: LiveServer) -> None:
        self._server = server
        self._asked = 0
        self.answers = self.prompt_tokens = self.cached_tokens = self.completion_tokens = 0
        self.errors = self.aborts = 0

    def round(self) -> None:
        """A few answers side by side, an error, and one that is given up."""
        first = self._asked
        self._asked += 2 * WIDTH
        with ThreadPoolExecutor(2 * WIDTH) as pool:
            for usage in pool.map(self._ask, range(first, self._asked)):
                self.answers += 1
                self.prompt_tokens += usage["prompt_tokens"]
                self.cached_tokens += usage["prompt_tokens_details"]["cached_tokens"]
                self.completion_tokens += usage["completion_tokens"]
        too_long = self._server.post("/v1/completions", {"prompt": "x " * 2000, "max_tokens": 1})
        assert too_long.status_code == 400
        self.errors += 1

    def _ask(self, number: int) -> dict[str, Any]:
        # Numbers repeat themselves, so guesses come true; heads are shared, so the cache is hit.
        body = {"prompt": f"Story {number % 3}. Count: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,", "max_tokens": 24}
        answer = self._server.post("/v1/completions", {**body, "ignore_eos": True})
        assert answer.status_code == 200, answer.text
        usage: dict[str, Any] = answer.json()["usage"]
        return usage

    def give_up(self) -> None:
        """Leave an answer in its middle."""
        body = {"model": MODEL, "prompt": "On and on", "max_tokens": 400, "stream": True, "ignore_eos": True}
        with self._server.http.stream("POST", "/v1/completions", json=body) as answer:
            next(answer.iter_lines())
        self.aborts += 1


def resolve(expression: str) -> str:
    """As Grafana asks it, with every variable at All."""
    return re.sub(r"\$(job|instance|model)\b", ".+", expression).replace("$__rate_interval", "1m")


def test_the_dashboard_is_answered_and_the_figures_are_those_of_the_clients(
    watched: LiveServer, prometheus: Prometheus
) -> None:
    eventually(lambda: prometheus.total("up"), lambda up: up == 1, "the server is scraped")
    clients = Clients(watched)
    clients.give_up()
    expressions = [resolve(expression) for expression in dashboard.expressions()]
    assert not [expression for expression in expressions if "$" in expression]

    def unanswered() -> list[str]:
        clients.round()
        return [
            expression
            for expression in expressions
            if not any(math.isfinite(value) for value in prometheus.query(expression))
        ]

    eventually(unanswered, _may_be_empty, "every panel has data")

    counted = {
        'nibble_requests_total{finish_reason="length"}': clients.answers,
        'nibble_requests_total{finish_reason="refused"}': clients.errors,
        'nibble_requests_total{finish_reason="abort"}': clients.aborts,
        'nibble_requests_rejected_total{reason="context"}': clients.errors,
        "nibble_time_to_first_token_seconds_count": clients.answers + clients.aborts,
        "nibble_request_duration_seconds_count": clients.answers,
        "nibble_request_generation_tokens_sum": clients.completion_tokens,
        "nibble_request_prompt_tokens_sum": clients.prompt_tokens,
        "nibble_requests_running": 0,
        "nibble_requests_waiting": 0,
        "nibble_kv_cache_usage_ratio": 0,
    }
    eventually(
        lambda: {name: prometheus.total(name) for name in counted},
        lambda seen: seen == counted,
        f"Prometheus has the clients' figures {counted}",
    )
    # What was given up was computed, too.
    assert prometheus.total("nibble_generation_tokens_total") >= clients.completion_tokens
    assert prometheus.total("nibble_cached_prompt_tokens_total") >= clients.cached_tokens
    for ours, theirs in TWINS.items():
        for suffix in ("", "_total", "_count", "_sum"):
            assert prometheus.query(ours + suffix) == prometheus.query(f'{{__name__="{theirs}{suffix}"}}')


def _may_be_empty(expressions: list[str]) -> bool:
    """Whether what has no data is only what a healthy server may not have: guesses, where none was worth it."""
    return all("draft_tokens" in expression for expression in expressions)


def test_the_rules_run_and_none_is_about_something_that_is_not_there(
    watched: LiveServer, prometheus: Prometheus
) -> None:
    eventually(
        lambda: [rule["health"] for rule in prometheus.get("rules")["groups"][0]["rules"]],
        lambda health: health == ["ok"] * len(RULES),
        "every rule was evaluated",
    )
    names = set(prometheus.get("label/__name__/values"))
    for rule in RULES:
        assert set(re.findall(r"\bnibble_\w+", rule["expr"])) <= names, rule["alert"]


def test_scraping_takes_no_time_of_the_engine_and_counts_as_no_use(watched: LiveServer) -> None:
    steps = watched.figures()("nibble_step_seconds_count")
    for _ in range(20):
        assert watched.status("/metrics") == 200
    assert watched.figures()("nibble_step_seconds_count") == steps


def test_totals_survive_the_worker_that_counted_them(watched: LiveServer) -> None:
    assert watched.answers()
    before = watched.figures()
    (worker,) = watched.workers().values()
    os.kill(worker, signal.SIGKILL)
    after = eventually(
        watched.figures, lambda seen: seen("nibble_worker_restarts_total") == 1, "the worker is replaced"
    )
    for name in ("nibble_generation_tokens_total", "nibble_step_seconds_count", "nibble_batch_size_sum"):
        assert after(name) == before(name) > 0
    assert after("nibble_inter_token_latency_seconds_sum") == before("nibble_inter_token_latency_seconds_sum")
    eventually(watched.answers, bool, "it answers again")
