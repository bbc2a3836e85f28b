"""What the Grafana dashboard shows: rows of panels, each with its queries. `scripts/dashboard.py` writes it.

tests/deploy asks a real Prometheus, which scrapes a server under load, for every expression of the list.
"""

from dataclasses import dataclass

HERE = 'job=~"$job",instance=~"$instance"'
MODEL = f'{HERE},model=~"$model"'
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Query:
    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """``kind`` is a panel type of Grafana; ``width`` is in 24ths of a row, ``unit`` one of Grafana's."""

    title: str
    kind: str
    queries: tuple[Query, ...]
    unit: str = "short"
    width: int = 8
    height: int = 8
    text: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, labels: str = MODEL) -> str:
    return f"rate({metric}{{{labels}}}[$__rate_interval])"


def total(metric: str, by: str = "", labels: str = MODEL) -> str:
    return f"sum {by}({rate(metric, labels)})" if by else f"sum({rate(metric, labels)})"


def quantile(share: float, metric: str) -> str:
    return f"histogram_quantile({share}, {total(f'{metric}_bucket', 'by (le) ')})"


def mean(metric: str, by: str = "") -> str:
    return f"{total(f'{metric}_sum', by)} / {total(f'{metric}_count', by)}"


def ratio(part: str, whole: str, by: str = "") -> str:
    return f"{total(part, by)} / {total(whole, by)}"


def stat(title: str, expression: str, unit: str = "short", text: str = "") -> Panel:
    return Panel(title, "stat", (Query(expression),), unit, width=4, height=4, text=text)


def percentiles(title: str, metric: str, text: str) -> Panel:
    queries = tuple(Query(quantile(share, metric), f"p{share * 100:g}") for share in QUANTILES)
    return Panel(title, "timeseries", queries, "s", text=text)


def heat_map(title: str, metric: str, unit: str) -> Panel:
    return Panel(title, "heatmap", (Query(total(f"{metric}_bucket", "by (le) "), "{{le}}"),), unit)


ERRORS = f'sum(rate(nibble_requests_total{{{MODEL},finish_reason="error"}}[$__rate_interval])) or vector(0)'
ROWS = (
    Row(
        "At a glance",
        (
            stat("Requests", total("nibble_requests_total"), "reqps"),
            stat("Tokens in", total("nibble_prompt_tokens_total"), "short", "Tokens of prompts a second."),
            stat(
                "Tokens out", total("nibble_generation_tokens_total"), "short", "Tokens generated a second."
            ),
            stat("Errors", f"({ERRORS}) / {total('nibble_requests_total')}", "percentunit"),
            stat("First token, p95", quantile(0.95, "nibble_time_to_first_token_seconds"), "s"),
            stat("Between tokens, p95", quantile(0.95, "nibble_inter_token_latency_seconds"), "s"),
            stat("Running", f"sum(nibble_requests_running{{{MODEL}}})"),
            stat("Waiting", f"sum(nibble_requests_waiting{{{MODEL}}})"),
            stat("KV cache used", f"max(nibble_kv_cache_usage_ratio{{{MODEL}}})", "percentunit"),
            stat(
                "Prefix cache hits",
                ratio("nibble_prefix_cache_hit_tokens_total", "nibble_prefix_cache_queried_tokens_total"),
                "percentunit",
            ),
            stat("Workers restarted", f"sum(increase(nibble_worker_restarts_total{{{MODEL}}}[1h]))"),
            stat("Up", f"sum(up{{{HERE}}})"),
        ),
    ),
    Row(
        "Models",
        (
            Panel(
                "State",
                "table",
                (Query(f"max by (model, state) (nibble_model_state{{{MODEL}}} == 1)"),),
                width=8,
            ),
            Panel(
                "Memory",
                "table",
                (Query(f"max by (model, part) (nibble_model_bytes{{{MODEL}}})"),),
                "bytes",
                width=8,
            ),
            Panel(
                "Last load took",
                "table",
                (Query(f"max by (model) (nibble_model_load_seconds{{{MODEL}}})"),),
                "s",
                width=8,
            ),
            Panel(
                "Tokens generated",
                "timeseries",
                (Query(total("nibble_generation_tokens_total", "by (model) "), "{{model}}"),),
            ),
            Panel(
                "Requests ended",
                "timeseries",
                (Query(total("nibble_requests_total", "by (model, operation) "), "{{model}} {{operation}}"),),
                "reqps",
            ),
            Panel(
                "Unloaded by itself",
                "timeseries",
                (
                    Query(
                        f"sum by (model, reason) (increase(nibble_model_evictions_total{{{MODEL}}}[1h]))",
                        "{{model}} {{reason}}",
                    ),
                ),
                text="Within an hour.",
            ),
            Panel(
                "Downloaded",
                "timeseries",
                (Query(total("nibble_download_bytes_total", "by (source) ", HERE), "{{source}}"),),
                "Bps",
            ),
            Panel(
                "KV cache used",
                "timeseries",
                (Query(f"max by (model) (nibble_kv_cache_usage_ratio{{{MODEL}}})", "{{model}}"),),
                "percentunit",
            ),
        ),
    ),
    Row(
        "Latency",
        (
            percentiles("First token", "nibble_time_to_first_token_seconds", "From the request to its text."),
            percentiles("Between tokens", "nibble_inter_token_latency_seconds", "As the engine counts it."),
            percentiles("Whole request", "nibble_request_duration_seconds", "To the last token."),
            heat_map("First token", "nibble_time_to_first_token_seconds", "s"),
            heat_map("Between tokens", "nibble_inter_token_latency_seconds", "s"),
            heat_map("Whole request", "nibble_request_duration_seconds", "s"),
            Panel(
                "Mean time by phase",
                "timeseries",
                tuple(
                    Query(mean(f"nibble_request_{phase}_seconds"), phase)
                    for phase in ("queue", "prefill", "decode")
                ),
                "s",
            ),
            Panel(
                "Mean time of a token",
                "timeseries",
                (Query(mean("nibble_request_time_per_output_token_seconds", "by (model) "), "{{model}}"),),
                "s",
            ),
            percentiles(
                "Engine step", "nibble_step_seconds", "One batch: prompts and running answers together."
            ),
        ),
    ),
    Row(
        "Requests",
        (
            Panel(
                "How they end",
                "timeseries",
                (Query(total("nibble_requests_total", "by (finish_reason) "), "{{finish_reason}}"),),
                "reqps",
            ),
            Panel(
                "Turned away",
                "timeseries",
                (Query(total("nibble_requests_rejected_total", "by (reason) ", HERE), "{{reason}}"),),
                "reqps",
            ),
            Panel(
                "Errors by code",
                "timeseries",
                (Query(total("nibble_request_errors_total", "by (operation, code) ", HERE), "{{code}}"),),
                "reqps",
            ),
            Panel(
                "Queue",
                "timeseries",
                (
                    Query(f"sum(nibble_requests_running{{{MODEL}}})", "running"),
                    Query(f"sum(nibble_requests_waiting{{{MODEL}}})", "waiting"),
                ),
            ),
            Panel(
                "Tokens by key",
                "timeseries",
                (
                    Query(
                        total("nibble_key_tokens_total", "by (key, direction) ", HERE),
                        "{{key}} {{direction}}",
                    ),
                ),
            ),
            heat_map("Prompt lengths", "nibble_request_prompt_tokens", "short"),
            heat_map("Answer lengths", "nibble_request_generation_tokens", "short"),
        ),
    ),
    Row(
        "Engine",
        (
            Panel(
                "Batch width",
                "timeseries",
                (Query(mean("nibble_batch_size", "by (model) "), "{{model}}"),),
                text="Sequences of a step, on average.",
            ),
            Panel(
                "Share of guesses that came true",
                "timeseries",
                (
                    Query(
                        ratio(
                            "nibble_accepted_draft_tokens_total", "nibble_draft_tokens_total", "by (model) "
                        ),
                        "{{model}}",
                    ),
                ),
                "percentunit",
            ),
            Panel(
                "Tokens that cost no step",
                "timeseries",
                (
                    Query(total("nibble_accepted_draft_tokens_total"), "guessed"),
                    Query(total("nibble_forced_tokens_total"), "forced by a constraint"),
                    Query(total("nibble_prefix_cache_hit_tokens_total"), "prompt, from the cache"),
                ),
            ),
        ),
    ),
    Row(
        "Process",
        (
            Panel(
                "HTTP answers",
                "timeseries",
                (Query(total("http_requests_total", "by (route, status) ", HERE), "{{route}} {{status}}"),),
                "reqps",
            ),
            Panel(
                "HTTP duration, p95",
                "timeseries",
                (
                    Query(
                        "histogram_quantile(0.95, sum by (le, route) "
                        f"({rate('http_request_duration_seconds_bucket', HERE)}))",
                        "{{route}}",
                    ),
                ),
                "s",
            ),
            Panel(
                "CPU of the API process",
                "timeseries",
                (Query(f"sum({rate('process_cpu_seconds_total', HERE)})", "cores"),),
            ),
            Panel(
                "Memory of the API process",
                "timeseries",
                (Query(f"sum(process_resident_memory_bytes{{{HERE}}})", "resident"),),
                "bytes",
            ),
            Panel(
                "Room on volumes",
                "timeseries",
                (Query(f"nibble_volume_free_bytes{{{HERE}}}", "{{volume}}"),),
                "bytes",
            ),
            Panel("Build", "table", (Query(f"nibble_build_info{{{HERE}}}"),)),
        ),
    ),
)
