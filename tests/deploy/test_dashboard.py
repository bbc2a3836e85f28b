"""The dashboard is the one that its list makes, and what Prometheus is told is sound."""

from __future__ import annotations

import json
import re
import subprocess

import dashboard

from engine.histogram import LATENCY_BOUNDS
from server.metrics import FIRST_TEXT_BUCKETS
from tests.deploy.files import DEPLOY, read_yaml
from tests.deploy.tools import find_program

PROMETHEUS = DEPLOY / "prometheus"
RULES = read_yaml(PROMETHEUS / "alerts.yml")["groups"][0]["rules"]


def test_the_file_is_what_the_script_writes() -> None:
    assert dashboard.TARGET.read_text() == dashboard.render(), "run `make dashboard`"


def test_panels_have_places_of_their_own() -> None:
    panels = json.loads(dashboard.render())["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < dashboard.WIDTH
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_promtool_takes_configuration_and_rules() -> None:
    promtool = find_program("promtool")
    for command in (
        ("check", "config", "prometheus.yml"),
        # The key's file is in the container alone.
        ("check", "config", "--syntax-only", "prometheus.keys.yml"),
        ("test", "rules", "alerts_test.yml"),
    ):
        result = subprocess.run([promtool, *command], cwd=PROMETHEUS, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    tests = read_yaml(PROMETHEUS / "alerts_test.yml")["tests"]
    raised = {
        case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")
    }
    assert raised == {rule["alert"] for rule in RULES}
    for rule in RULES:
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_thresholds_on_latencies_are_bounds_of_buckets() -> None:
    """Between two bounds, a quantile is a guess."""
    bounds = {
        "nibble_time_to_first_token_seconds": FIRST_TEXT_BUCKETS,
        "nibble_inter_token_latency_seconds": LATENCY_BOUNDS,
    }
    found = 0
    for rule in RULES:
        if match := re.search(
            r"histogram_quantile.*?(nibble_\w+)_bucket.* > ([\d.]+)", rule["expr"], re.DOTALL
        ):
            assert float(match.group(2)) in bounds[match.group(1)]
            found += 1
    assert found == 2
