from __future__ import annotations

import re

from server.metrics import Metrics
from server.reload import AT_ONCE, AT_THE_NEXT_LOAD
from tests.deploy.files import ROOT
from tests.server.test_metrics import Models


def test_what_reload_says_of_single_settings_is_so() -> None:
    text = (ROOT / "docs" / "operate.md").read_text()
    kinds = dict(re.findall(r"^\| (at once|next load|restart) \| (.*) \|$", text, re.MULTILINE))
    assert kinds.keys() == {"at once", "next load", "restart"}
    assert {"memory_budget", "api_key_file"} <= AT_ONCE
    assert "models" in AT_THE_NEXT_LOAD


def test_every_metric_is_in_the_table_and_none_else() -> None:
    """By the names that Prometheus has them under."""
    text = (ROOT / "docs" / "operate.md").read_text()
    told = set(
        re.findall(r"`((?:nibble|http)_\w+)`", text[text.index("| name | kind") : text.index("- A gap of")])
    )
    suffix = {"counter": "_total", "info": "_info"}
    known = {
        family.name + suffix.get(family.type, "")
        for family in Metrics(Models()).registry.collect()
        if family.name.startswith(("nibble_", "http_"))
    }
    assert told == known
