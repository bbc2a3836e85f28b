"""A run that is kept: the table as Markdown, the figures as JSON, throughput as a plot."""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.result import Result
from benchmarks.throughput import ThroughputRow


def write_report(folder: Path, machine: str, results: list[Result], rows: list[ThroughputRow]) -> Path:
    """Write the files of one run into ``folder``, named by the day. Returns the path of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    day = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    table = folder / f"{day}.md"
    table.write_text(_markdown(day, machine, results), encoding="utf-8")
    figures = {
        "day": day,
        "machine": machine,
        "results": [asdict(result) for result in results],
        "throughput": [asdict(row) for row in rows],
    }
    (folder / f"{day}.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if rows:
        _plot(rows, folder / f"{day}.png")
    return table


def _markdown(day: str, machine: str, results: list[Result]) -> str:
    lines = [f"# Measured on {day}", "", machine, "", "| workload | measured | goal | met | detail |"]
    lines.append("|---|---|---|---|---|")
    for result in results:
        met = "yes" if result.is_met else "**no**"
        lines.append(f"| {result.workload} | {result.figure} | {result.goal} | {met} | {result.detail} |")
    return "\n".join(lines) + "\n"


def _plot(rows: list[ThroughputRow], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    places = range(len(rows))
    axes.bar([place - 0.2 for place in places], [row.bare for row in rows], 0.4, label="bare library")
    axes.bar([place + 0.2 for place in places], [row.served for row in rows], 0.4, label="served by nibble")
    for place, row in zip(places, rows, strict=True):
        axes.annotate(f"{row.ratio:.2f}", (place + 0.2, row.served), ha="center", va="bottom")
    axes.set_xticks(list(places), [str(row.clients) for row in rows])
    axes.set_xlabel("clients")
    axes.set_ylabel("tokens generated a second, prefill included")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
