from __future__ import annotations

import json
from pathlib import Path

from benchmarks.report import write_report
from benchmarks.result import Result
from benchmarks.throughput import ThroughputRow, throughput_results

PNG = b"\x89PNG\r\n\x1a\n"


def _row(clients: int, served: float) -> ThroughputRow:
    return ThroughputRow(
        clients, 100.0, served, served / 100.0, 0.5, 70.0, beside=(("another", 80.0), ("a third", 90.0))
    )


def test_a_run_is_kept_with_its_figures_and_plots(tmp_path: Path) -> None:
    rows = [_row(1, 105.0), _row(16, 90.0)]
    results = [*throughput_results(rows), Result("another row", "3 of 4", "4", is_met=False, score=0.75)]
    table = write_report(tmp_path / "kept", "a machine", results, rows)
    text = table.read_text()
    assert "| unique prompts, 16 clients | 0.90 of the bare library | at least 0.95 | **no** |" in text
    assert "another: 0.80 (80 tok/s)" in text
    for name in (table.stem, f"{table.stem}-goals"):
        assert f"({name}.png)" in text
        assert table.with_name(f"{name}.png").read_bytes().startswith(PNG)
    figures = json.loads(table.with_suffix(".json").read_text())
    assert figures["machine"] == "a machine"
    assert [row["served"] for row in figures["throughput"]] == [105.0, 90.0]


def test_a_run_without_throughput_has_no_plot_of_it(tmp_path: Path) -> None:
    table = write_report(tmp_path, "a machine", [Result("idle", "0 %", "0 %", is_met=True, score=10.0)], [])
    assert not table.with_suffix(".png").exists()
    assert table.with_name(f"{table.stem}-goals.png").exists()
    assert f"({table.stem}.png)" not in table.read_text()


def test_a_figure_and_its_score_agree_about_the_goal() -> None:
    for served in (50.0, 94.0, 96.0, 120.0):
        (result,) = throughput_results([_row(8, served)])
        assert (result.score >= 1.0) is result.is_met
